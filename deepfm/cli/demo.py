"""Run the whole pipeline on one machine: click log, features, training, registry, gate and daily scoring.

Without --input it writes eight days of synthetic clicks with known true probabilities, so that the model's
metrics can be compared with the best possible ones. With --input it reads a log in Criteo's layout: a file,
or ds= folders. `make demo` and jobs/demo.py work in the project folder, `deepfm demo` in the current one;
log, dataset and scores are written to work/demo there.
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
from deepfm.errors import UserError
from deepfm.ownership import exclusive_ownership

WORK = Path("work/demo")  # relative to the folder where the jobs run
#: Content of that folder; a folder with other files is somebody else's.
_CONTENT = {"log", "dataset", "scores"}
#: Not a name of the other examples: the champion of a real log in the same registry must not change.
NAME = "ctr_demo"
_FILES = {
    "features": "jobs/build_features.py",
    "train": "jobs/train.py",
    "promote": "jobs/promote.py",
    "score": "jobs/score.py",
}
_COMMANDS = {
    "features": "-m deepfm build-features",
    "train": "-m deepfm train",
    "promote": "-m deepfm promote",
    "score": "-m deepfm score",
}
_SYNTHETIC = "-m deepfm.synthetic"
RUNS = "mlflow ui --backend-store-uri sqlite:///work/mlflow.db"


@click.command(cls=JobCommand, help=__doc__)
@click.option("--input", "log", help="Log in Criteo's layout; default: a synthetic log.")
@click.option(
    "--rows-per-day",
    default=50_000,
    show_default=True,
    help="Size of the synthetic log, of 8 days.",
)
@click.option("--num-workers", default=2, show_default=True, help="Horovod processes.")
@job
def demo(log: str | None, rows_per_day: int, num_workers: int) -> dict:
    log = log and storage.absolute_url(log)
    # Folder with jobs/ and conf/, given by jobs/demo.py; without it the commands of the package run here.
    project: Path | None = click.get_current_context().obj
    jobs, runs = (_COMMANDS, RUNS) if project is None else (_FILES, f".venv/bin/{RUNS}")
    if project:
        runs = runs if Path.cwd() == project else f"cd {shlex.quote(str(project))} && {runs}"
        os.chdir(project)
    _require_own_folder()
    owned = exclusive_ownership(storage.absolute_url(str(WORK.parent)), WORK.name, str(WORK), "stop it")
    with owned:  # two demos would remove each other's files
        return _run_pipeline(log, rows_per_day, num_workers, runs, jobs)


def _require_own_folder() -> None:
    others = {path.name for path in WORK.iterdir()} - _CONTENT if WORK.is_dir() else set()
    if others:
        raise UserError(
            f"{WORK.absolute()}: expected only files of an earlier demo, which are removed, found "
            f"{', '.join(sorted(others)):.200}; move it, or run the demo in another folder"
        )


def _run_pipeline(
    log: str | None, rows_per_day: int, num_workers: int, runs: str, jobs: dict[str, str]
) -> dict:
    shutil.rmtree(WORK, ignore_errors=True)
    stages, truth = {}, None
    if not log:
        log = str(WORK / "log")
        make = f"{_SYNTHETIC} --days 8 --rows-per-day {rows_per_day} --seed 1 --output"
        truth = stages["synthetic log"] = run("Write a log with known probabilities", make, log)
    split_flags, scored_day = split_days(storage.absolute_url(log))
    dataset, scores = str(WORK / "dataset"), str(WORK / "scores")
    build = f"{jobs['features']} --data conf/data/criteo.yaml --output {dataset} {split_flags} --input"
    stages["features"] = run("Encode raw values as ids", build, log)
    train = f"{jobs['train']} --dataset {dataset} --model conf/model/deepfm.yaml --name {NAME}"
    stages["train"] = run("Train DeepFM", f"{train} --num-workers {num_workers}")
    stages["promote"] = run("Compare the candidate with the champion", f"{jobs['promote']} --name {NAME}")
    score = f"{jobs['score']} --date {scored_day} --model-uri models:/{NAME}@champion --output {scores}"
    stages["score"] = run("Score a day with the champion", f"{score} --input", log)
    show_tables(stages, truth["by_day"][split_flags.split()[-1]] if truth else None, runs)
    trained = {key: stages["train"][key] for key in ("test_auc", "test_logloss", "version")}
    return {**trained, "promoted": stages["promote"]["promoted"], "scores": stages["score"]["output"]}


def split_days(log: str) -> tuple[str, str]:
    """Return the flags that split a log by its days, and the day to score (today if it has no days)."""
    names = [child["name"] for child in storage.children(log)] if storage.is_folder(log) else []
    days = [name.removeprefix("ds=") for name in names if name.startswith("ds=")]
    if len(days) < 4:
        return "", date.today().isoformat()
    return f"--train-days {days[0]}:{days[-4]} --valid-days {days[-3]} --test-days {days[-2]}", days[-1]


def run(title: str, command: str, *path: str) -> dict:
    """Run a job as a subprocess and return its summary; `path` is an argument that may contain spaces."""
    arguments = [*command.split(), *path] + ["--verbose"] * (is_verbose() and _SYNTHETIC not in command)
    click.echo(f"{click.style(title, bold=True)}\n  $ python {' '.join(arguments)}", err=True)
    # Half the time of a short job is Java's optimizing compiler; the quick compiler alone is enough.
    environment = {**os.environ, "SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1"}
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        sys.exit(done.returncode)
    summary = json.loads(done.stdout.splitlines()[-1])
    click.secho(f"  done in {summary['seconds']:.0f} s", fg="green", err=True)
    return summary
