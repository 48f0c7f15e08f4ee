"""Compute live AUC, logloss and calibration of a published day from labels that arrived later.

Example:

    spark-submit jobs/evaluate.py --date 2026-01-08 --scores work/scores --input work/log \\
        --key impression_id
"""

import math
import tempfile
from dataclasses import asdict

import click

from deepfm import storage
from deepfm.artifact.artifact import load_artifact
from deepfm.cli.job import JobCommand, job, load_profile, profile_option, tracking_option
from deepfm.cli.spark.progress import show_progress
from deepfm.cli.spark.session import spark_session
from deepfm.errors import UserError
from deepfm.scoring.daily_runs import log_live_metrics
from deepfm.scoring.days import day_url, published_day
from deepfm.scoring.live import live_metrics
from deepfm.tracking.store import open_store


@click.command(cls=JobCommand, help=__doc__)
@click.option("--date", required=True, help="The published day, YYYY-MM-DD.")
@click.option("--scores", "scores_path", required=True, help="Folder of published days.")
@click.option("--input", "input_path", required=True, help="Impressions of the day with labels.")
@click.option(
    "--key", required=True, help="Columns that identify an impression, C1,C2; published by score.py --keep."
)
@tracking_option
@profile_option
@job
def evaluate(date, scores_path, input_path, key, tracking_uri, profile_path) -> dict:
    profile = load_profile(profile_path)
    scores_url, input_url = storage.absolute_url(scores_path), storage.absolute_url(input_path)
    published = published_day(scores_url, date)
    if published is None:
        raise UserError(f"{day_url(scores_url, date)}: expected a published day, found none; score it first")
    names = tuple(name.strip() for name in key.split(",") if name.strip())
    if not names:
        raise UserError(f"--key: expected columns such as C1,C2, found {key!r}; name those kept when scored")
    store = open_store(profile.mlflow, tracking_uri)
    provenance = published.provenance
    version = store.resolve(f"models:/{provenance.name}/{provenance.version}")
    with tempfile.TemporaryDirectory() as folder:
        settings = load_artifact(f"file://{store.download(version, folder)}").card.data
    with spark_session(profile, "evaluate") as spark, show_progress(spark, "evaluate"):
        live = live_metrics(spark, scores_url, date, input_url, settings, names)
    metrics = {**asdict(live.metrics), "calibration": live.metrics.calibration}
    defined = {name: float(value) for name, value in metrics.items() if value is not None}
    finite = {name: value for name, value in defined.items() if math.isfinite(value)}
    trend = log_live_metrics(store, provenance.name, date, finite)
    return {
        "date": date,
        "name": provenance.name,
        "version": provenance.version,
        **finite,
        "num_rows": live.metrics.num_rows,
        "rows_without_label": live.rows_without_label,
        "labels_without_score": live.labels_without_score,
        "trend": [
            {"date": day, "auc": metrics.get("auc"), "logloss": metrics.get("logloss")}
            for day, metrics in trend
        ],
    }
