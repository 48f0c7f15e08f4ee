"""The whole pipeline on one machine: a click log, features, training, registry, gate and a scored night.

Without --input it makes a week of synthetic clicks whose truth is known, so that the model's figures stand
beside what no model can beat. With --input it takes a log in Criteo's layout: a file, or ds= folders.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

from command import JobCommand, click, is_verbose, job
from rich.console import Console
from rich.table import Table

WORK = Path("work/demo")
NAME = "ctr_deepfm"


@click.command(cls=JobCommand, help=__doc__)
@click.option("--input", "log", help="A log in Criteo's layout; a synthetic one where it is not given.")
@click.option("--rows-per-day", default=50_000, show_default=True, help="Of the synthetic log's eight days.")
@click.option("--num-workers", default=2, show_default=True, help="Horovod processes.")
@job
def demo(log: str | None, rows_per_day: int, num_workers: int) -> dict:
    shutil.rmtree(WORK, ignore_errors=True)
    stages, truth = {}, None
    if log is None:
        log = str(WORK / "log")
        make = f"-m deepfm.synthetic --days 8 --rows-per-day {rows_per_day} --seed 1 --output"
        truth = stages["synthetic log"] = run("A log whose truth is known", make, log)
    days, night = days_of(Path(log))
    dataset, scores = str(WORK / "dataset"), str(WORK / "scores")
    build = f"jobs/build_features.py --data conf/data/criteo.yaml --output {dataset} {days} --input"
    stages["features"] = run("Raw values become ids", build, log)
    train = f"jobs/train.py --dataset {dataset} --model conf/model/deepfm.yaml --name {NAME}"
    stages["train"] = run("Workers train DeepFM together", f"{train} --num-workers {num_workers}")
    stages["promote"] = run("The gate looks at the candidate", f"jobs/promote.py --name {NAME}")
    score = f"jobs/score.py --date {night} --model-uri models:/{NAME}@champion --output {scores} --input"
    stages["score"] = run("The champion scores a night", score, log)
    show(stages, truth["by_day"][days.split()[-1]] if truth else None)
    figures = {key: stages["train"][key] for key in ("test_auc", "test_logloss", "version")}
    return {**figures, "promoted": stages["promote"]["promoted"], "scores": stages["score"]["output"]}


def days_of(log: Path) -> tuple[str, str]:
    """The flags that split a log by its days, and the night to score: the last one, or today without days."""
    days = sorted(path.name.removeprefix("ds=") for path in log.glob("ds=*"))
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


def show(stages: dict[str, dict], truth: dict | None) -> None:
    """What a person wants to know, as tables on stdout."""
    features, trained, promoted, scored = (stages[name] for name in ("features", "train", "promote", "score"))
    facts = Table("What happened", "")
    facts.add_row("impressions", f"{features['rows_read']:,} read, {features['rows_bad']:,} set aside")
    facts.add_row("features", f"{features['num_ids']:,} ids of {features['num_fields']} fields")
    speed = f"{trained['samples_per_s']:,} samples/s"
    facts.add_row("training", f"{trained['num_workers']} workers, {trained['epochs']} epochs, {speed}")
    became = "is champion: " if promoted["promoted"] else "is not champion: "
    facts.add_row(f"version {promoted['version']}", became + "\n".join(promoted["reasons"]))
    mean = f"mean probability {scored['mean_probability']:.4f}"
    facts.add_row(scored["date"], f"{scored['rows_scored']:,} scored by version {scored['version']}, {mean}")
    figures = Table("On the held-out rows", "AUC", "logloss")
    if truth:
        best = [f"{truth[key]:.4f}" for key in ("bayes_auc", "bayes_logloss")]
        figures.add_row("the planted truth (no model can beat it)", *best)
    figures.add_row("DeepFM", f"{trained['test_auc']:.4f}", f"{trained['test_logloss']:.4f}")
    figures.add_row("always the CTR", "0.5000", f"{trained['test_ctr_logloss']:.4f}")
    seconds = Table("Stage", "seconds")
    for stage, summary in stages.items():
        seconds.add_row(stage, f"{summary['seconds']:.0f}")
    runs = ".venv/bin/mlflow ui --backend-store-uri sqlite:///work/mlflow.db"
    Console().print(facts, figures, seconds)
    Console().print(f"Scores:  {scored['output']}\nRuns:    {runs}", soft_wrap=True)


if __name__ == "__main__":
    demo()
