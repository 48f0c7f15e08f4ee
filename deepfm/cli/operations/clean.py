"""List folders that are no longer needed, with their size and the reason; --yes removes them.

Example:

    python -m deepfm clean --scores work/scores --datasets work/datasets
    python -m deepfm clean --scores work/scores --datasets work/datasets --yes

Folders of ended training runs in work_dir are always listed. What another process uses is never removed.
"""

import sys
from datetime import datetime, timezone

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepfm import storage
from deepfm.cleanup.leftovers import (
    Leftover,
    find_attempts,
    find_datasets,
    find_run_folders,
    limit_of_age,
    remove_leftover,
)
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.options.common import profile_option, tracking_option
from deepfm.tracking.store import open_store


@click.command(cls=JobCommand, help=__doc__)
@click.option("--scores", "scores_path", help="Folder of published days; also list what killed jobs left.")
@click.option("--datasets", "datasets_path", help="Folder of datasets; also list those without a version.")
@click.option(
    "--older-than",
    "num_days",
    type=click.FloatRange(min=0),
    default=14,
    show_default=True,
    help="Days for which interrupted runs and new datasets are kept.",
)
@click.option("--yes", "is_confirmed", is_flag=True, help="Remove the folders.")
@tracking_option
@profile_option
@job
def clean(scores_path, datasets_path, num_days, is_confirmed, tracking_uri, profile_path) -> dict:
    profile = load_profile(profile_path)
    store = open_store(profile.mlflow, tracking_uri)
    before = limit_of_age(num_days, datetime.now(timezone.utc))
    leftovers = list(find_run_folders(store, storage.absolute_url(profile.work_dir), before=before))
    if scores_path:
        leftovers += find_attempts(storage.absolute_url(scores_path))
    if datasets_path:
        leftovers += find_datasets(store, storage.absolute_url(datasets_path), before=before)
    _print_leftovers(leftovers)
    removed = [leftover for leftover in leftovers if is_confirmed and remove_leftover(leftover)]
    if leftovers and not is_confirmed:
        click.echo("nothing was removed; --yes removes these folders", err=True)
    return {
        "leftovers": [_summary(leftover, leftover in removed) for leftover in leftovers],
        "removed": len(removed),
        "removed_bytes": sum(leftover.num_bytes for leftover in removed),
    }


def _summary(leftover: Leftover, is_removed: bool) -> dict:
    fields = {"kind": leftover.kind, "url": leftover.url, "reason": leftover.reason}
    return {**fields, "bytes": leftover.num_bytes, "removed": is_removed}


def _print_leftovers(leftovers: list[Leftover]) -> None:
    table = Table("kind", "MiB", "folder", "reason", box=None, padding=(0, 2, 0, 0))
    for leftover in leftovers:
        size = f"{leftover.num_bytes / 2**20:,.1f}"
        table.add_row(leftover.kind, size, Text(leftover.url, overflow="fold"), Text(leftover.reason))
    Console(stderr=True, width=None if sys.stderr.isatty() else 160).print(table)
