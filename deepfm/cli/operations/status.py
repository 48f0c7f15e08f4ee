"""Show the champion of a model, its previous champion and candidate, and the last scored days.

Example:

    python -m deepfm status ctr_deepfm
    python -m deepfm status ctr_deepfm --scores work/scores --date 2026-01-08

With --scores, the days published in this folder are shown; without, those logged in MLflow.
"""

from dataclasses import asdict
from datetime import datetime, timezone

import click

from deepfm import storage
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.operations.status_tables import print_status
from deepfm.cli.options.common import profile_option, tracking_option
from deepfm.click_log.labels_and_days import is_day
from deepfm.errors import UserError
from deepfm.monitoring.day_status import days_status
from deepfm.monitoring.model_status import model_status
from deepfm.tracking.store import open_store


@click.command(cls=JobCommand, help=__doc__)
@click.argument("name")
@click.option("--scores", "scores_path", help="Folder of published days; default: the days in MLflow.")
@click.option(
    "--days", "num_days", type=click.IntRange(min=1), default=7, show_default=True, help="Days to show."
)
@click.option("--date", "until", help="Last day to show, YYYY-MM-DD; default: the last scored day.")
@tracking_option
@profile_option
@job
def status(name, scores_path, num_days, until, tracking_uri, profile_path) -> dict:
    if until is not None and not is_day(until):
        raise UserError(f"--date: expected a day YYYY-MM-DD, found {until}")
    scores_url = scores_path and storage.absolute_url(scores_path)
    store = open_store(load_profile(profile_path).mlflow, tracking_uri)
    model = model_status(store, name, now=datetime.now(timezone.utc))
    days = days_status(store, name, scores_url, num_days=num_days, until=until)
    print_status(model, days)
    return {
        **asdict(model),
        "days": [asdict(day) for day in days.days],
        "missing": list(days.missing),
        "without_labels": list(days.without_labels),
    }
