"""Three nights of growth beside training anew on all days, on a synthetic log whose truth drifts.

    python benchmarks/growth.py [--rows-per-day 50000] [--drift 0.05] [--num-workers 2]

A model is trained on four days; on each of three nights its dataset and its weights grow by a day. Beside
the last night stands a dataset and a training of all seven days from nothing. Both are measured on day nine.
Seconds are of the two jobs, Spark's and Horovod's start included. Stdout ends with a line of JSON.
"""

import json
import shutil
import sys
from datetime import date, timedelta

import click
from pipeline import REPOSITORY, run_job
from rich.console import Console
from rich.table import Table

from deepfm.errors import UserError

WORK = REPOSITORY / "work" / "benchmarks" / "growth"
MODEL = "conf/model/deepfm.yaml"
NUM_OLD_DAYS, NUM_NIGHTS = 4, 3


def day(number: int) -> str:
    return (date(2026, 1, 1) + timedelta(days=number - 1)).isoformat()


def learn(name: str, first: int, last: int, num_workers: int, grow: str | None, version: str | None) -> dict:
    """A dataset and a model of the days from first to last; the next day chooses the epoch."""
    days = ["--train-days", f"{day(first)}:{day(last)}", "--valid-days", day(last + 1), "--test-days", day(9)]
    files = ["--data", "conf/data/criteo.yaml", "--input", WORK / "log", "--output", WORK / name]
    growing = ["--grow", WORK / grow] if grow else []
    built = run_job("jobs/build_features.py", *files, *days, *growing)
    warm = ["--warm-start", f"models:/growth/{version}"] if version else []
    store = ["--name", "growth", "--tracking-uri", f"sqlite:///{WORK}/mlflow.db"]
    settings = ["--dataset", WORK / name, "--model", MODEL, "--num-workers", num_workers]
    trained = run_job("jobs/train.py", *settings, *store, *warm)
    return {
        "days": f"{first} to {last}" if first < last else str(first),
        "rows": built["rows_train"],
        "auc": trained["test_auc"],
        "logloss": trained["test_logloss"],
        "seconds": built["seconds"] + trained["seconds"],
        "version": trained["version"],
    }


def run_all(rows_per_day: int, drift: float, num_workers: int) -> dict[str, dict]:
    shutil.rmtree(WORK, ignore_errors=True)
    flags = ["--days", 9, "--rows-per-day", rows_per_day, "--drift", drift, "--output", WORK / "log"]
    run_job("-m", "deepfm.cli.synthetic", *flags)
    learnt = {"before": learn("before", 1, NUM_OLD_DAYS, num_workers, None, None)}
    for night in range(1, NUM_NIGHTS + 1):
        grown_from, last = list(learnt)[-1], list(learnt.values())[-1]
        new_day, name = NUM_OLD_DAYS + night, f"night {night}"
        learnt[name] = learn(name, new_day, new_day, num_workers, grown_from, last["version"])
    learnt["anew"] = learn("anew", 1, NUM_OLD_DAYS + NUM_NIGHTS, num_workers, None, None)
    return learnt


@click.command(help=__doc__.replace("drifts.\n\n", "drifts.\n\n\b\n"))
@click.option("--rows-per-day", default=50_000, show_default=True)
@click.option("--drift", default=0.05, show_default=True)
@click.option("--num-workers", default=2, show_default=True)
def main(rows_per_day: int, drift: float, num_workers: int) -> None:
    try:
        learnt = run_all(rows_per_day, drift, num_workers)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    table = Table("model", "learns from days", "rows", "seconds", "AUC on day 9", "logloss")
    for name, run in learnt.items():
        figures = (f"{run['rows']:,}", f"{run['seconds']:.0f}", f"{run['auc']:.4f}", f"{run['logloss']:.4f}")
        table.add_row(name, run["days"], *figures)
    Console().print(table)
    grown, anew = learnt[f"night {NUM_NIGHTS}"], learnt["anew"]
    found = {"auc_difference": grown["auc"] - anew["auc"], "time_ratio": anew["seconds"] / grown["seconds"]}
    click.echo(json.dumps({**found, "runs": learnt}))


if __name__ == "__main__":
    main()
