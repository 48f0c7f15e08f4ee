"""Incremental training on three new days compared with training from scratch, on a log that drifts.

    python benchmarks/growth.py [--rows-per-day 50000] [--drift 0.05] [--num-workers 2]

A model is trained on four days; then dataset and weights grow by one day, three times. The last model is
compared with one trained from scratch on a dataset of all seven days, both on day nine. Seconds are those of
the two jobs, with the start of Spark and Horovod. Stdout ends with a line of JSON.
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
NUM_OLD_DAYS, NUM_NEW_DAYS = 4, 3


def day(number: int) -> str:
    return (date(2026, 1, 1) + timedelta(days=number - 1)).isoformat()


def build_and_train(
    name: str, first: int, last: int, num_workers: int, grow: str | None = None, version: str | None = None
) -> dict:
    """Build a dataset and train a model on the days first to last; validate on the next day."""
    days = ["--train-days", f"{day(first)}:{day(last)}", "--valid-days", day(last + 1), "--test-days", day(9)]
    files = ["--data", "conf/data/criteo.yaml", "--input", WORK / "log", "--output", WORK / name]
    grow_flags = ["--grow", WORK / grow] if grow else []
    built = run_job("jobs/build_features.py", *files, *days, *grow_flags)
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
    base = "initial"
    runs = {base: build_and_train(base, 1, NUM_OLD_DAYS, num_workers)}
    for number in range(1, NUM_NEW_DAYS + 1):
        new_day, name = NUM_OLD_DAYS + number, f"new day {number}"
        runs[name] = build_and_train(name, new_day, new_day, num_workers, base, runs[base]["version"])
        base = name
    runs["from scratch"] = build_and_train("from scratch", 1, NUM_OLD_DAYS + NUM_NEW_DAYS, num_workers)
    return runs


@click.command(help=__doc__.replace("drifts.\n\n", "drifts.\n\n\b\n"))
@click.option("--rows-per-day", default=50_000, show_default=True)
@click.option("--drift", default=0.05, show_default=True)
@click.option("--num-workers", default=2, show_default=True)
def main(rows_per_day: int, drift: float, num_workers: int) -> None:
    try:
        runs = run_all(rows_per_day, drift, num_workers)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    table = Table("model", "training days", "rows", "seconds", "AUC on day 9", "logloss")
    for name, run in runs.items():
        cells = (f"{run['rows']:,}", f"{run['seconds']:.0f}", f"{run['auc']:.4f}", f"{run['logloss']:.4f}")
        table.add_row(name, run["days"], *cells)
    Console().print(table)
    grown, scratch = runs[f"new day {NUM_NEW_DAYS}"], runs["from scratch"]
    auc_difference = grown["auc"] - scratch["auc"]
    time_ratio = scratch["seconds"] / grown["seconds"]
    click.echo(json.dumps({"auc_difference": auc_difference, "time_ratio": time_ratio, "runs": runs}))


if __name__ == "__main__":
    main()
