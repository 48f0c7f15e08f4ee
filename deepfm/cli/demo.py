"""The whole pipeline on one machine: a click log, features, training, registry, gate and a scored night.

Without --input it makes a week of synthetic clicks whose truth is known, so that the model's figures stand
beside what no model can beat. With --input it takes a log in Criteo's layout: a file, or ds= folders.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import click

from deepfm import storage
from deepfm.cli.demo_tables import show_tables
from deepfm.cli.job import JobCommand, is_verbose, job

ROOT = Path(__file__).resolve().parents[2]
WORK = Path("work/demo")  # in the project's folder, in which the jobs run
#: One of its own: in the same registry the model of a real log must stay champion.
NAME = "ctr_demo"
RUNS = ".venv/bin/mlflow ui --backend-store-uri sqlite:///work/mlflow.db"


@click.command(cls=JobCommand, help=__doc__)
@click.option("--input", "log", help="A log in Criteo's layout; a synthetic one where it is not given.")
@click.option("--rows-per-day", default=50_000, show_default=True, help="Of the synthetic log's eight days.")
@click.option("--num-workers", default=2, show_default=True, help="Horovod processes.")
@job
def demo(log: str | None, rows_per_day: int, num_workers: int) -> dict:
    log = log and storage.absolute_url(log)
    runs = RUNS if Path.cwd() == ROOT else f"cd {shlex.quote(str(ROOT))} && {RUNS}"
    os.chdir(ROOT)
    shutil.rmtree(WORK, ignore_errors=True)
    stages, truth = {}, None
    if not log:
        log = str(WORK / "log")
        make = f"-m deepfm.cli.synthetic --days 8 --rows-per-day {rows_per_day} --seed 1 --output"
        truth = stages["synthetic log"] = run("A log whose truth is known", make, log)
    days, night = days_of(storage.absolute_url(log))
    dataset, scores = str(WORK / "dataset"), str(WORK / "scores")
    build = f"jobs/build_features.py --data conf/data/criteo.yaml --output {dataset} {days} --input"
    stages["features"] = run("Raw values become ids", build, log)
    train = f"jobs/train.py --dataset {dataset} --model conf/model/deepfm.yaml --name {NAME}"
    stages["train"] = run("Workers train DeepFM together", f"{train} --num-workers {num_workers}")
    stages["promote"] = run("The gate looks at the candidate", f"jobs/promote.py --name {NAME}")
    score = f"jobs/score.py --date {night} --model-uri models:/{NAME}@champion --output {scores} --input"
    stages["score"] = run("The champion scores a night", score, log)
    show_tables(stages, truth["by_day"][days.split()[-1]] if truth else None, runs)
    figures = {key: stages["train"][key] for key in ("test_auc", "test_logloss", "version")}
    return {**figures, "promoted": stages["promote"]["promoted"], "scores": stages["score"]["output"]}


def days_of(log: str) -> tuple[str, str]:
    """The flags that split a log by its days, and the night to score: the last one, or today without days."""
    names = [child["name"] for child in storage.children(log)] if storage.is_folder(log) else []
    days = [name.removeprefix("ds=") for name in names if name.startswith("ds=")]
    if len(days) < 4:
        return "", date.today().isoformat()
    return f"--train-days {days[0]}:{days[-4]} --valid-days {days[-3]} --test-days {days[-2]}", days[-1]


def run(title: str, command: str, *path: str) -> dict:
    """Run a job as a user would; its summary. `path` is an argument that may hold spaces."""
    arguments = [*command.split(), *path] + ["--verbose"] * (is_verbose() and command.startswith("jobs/"))
    click.echo(f"{click.style(title, bold=True)}\n  $ python {' '.join(arguments)}", err=True)
    # Half of a short job's time is Java compiling itself for a long one: its quick compiler alone will do.
    settings = {**os.environ, "SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1"}
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=settings)
    if done.returncode:
        sys.exit(done.returncode)
    summary = json.loads(done.stdout.splitlines()[-1])
    click.secho(f"  done in {summary['seconds']:.0f} s", fg="green", err=True)
    return summary
