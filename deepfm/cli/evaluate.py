"""Compute live AUC, logloss and calibration of published days from labels that arrived later.

Example:

    spark-submit jobs/evaluate.py --date 2026-01-08 --scores work/scores --labels work/clicks \\
        --key impression_id

The label log needs only the key columns and the label. It has the format of the log that the model was
trained on, or the one that --labels-data describes. Of a log in day folders or with a day column, the rows of
--date and of the --max-delay days after it are read; other logs are read whole.
"""

import logging
import math
import tempfile
from dataclasses import asdict, dataclass

import click
from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.artifact.artifact import load_artifact
from deepfm.cli.batch import do_each
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.options.common import profile_option, tracking_option
from deepfm.cli.spark.progress import show_progress
from deepfm.cli.spark.session import spark_session
from deepfm.errors import IncompleteError, UserError
from deepfm.experiments.lineage import read_lineage
from deepfm.registry.seen_rows import seen_days_warning
from deepfm.scoring.daily_runs import log_live_metrics
from deepfm.scoring.days import PublishedDay, day_url, parse_days, published_day
from deepfm.scoring.labels import LabelOptions
from deepfm.scoring.live import live_metrics
from deepfm.settings.labels import LabelSettings
from deepfm.settings.loader import load_settings
from deepfm.tracking.run import logged_model_id
from deepfm.tracking.store import MlflowStore, open_store

logger = logging.getLogger(__name__)


@click.command(cls=JobCommand, help=__doc__)
@click.option("--date", help="The published day, YYYY-MM-DD.")
@click.option("--from", "first", help="First of several days, instead of --date.")
@click.option("--to", "last", help="Last of several days, with --from.")
@click.option("--scores", "scores_path", required=True, help="Folder of published days.")
@click.option(
    "--labels",
    "--input",
    "labels_path",
    required=True,
    help="Label log, a file or a folder: key columns and label. --input is another name of this flag.",
)
@click.option("--labels-data", "labels_data", help="YAML with the format of the label log.")
@click.option(
    "--key", required=True, help="Columns that identify an impression, C1,C2; published by score.py --keep."
)
@click.option(
    "--max-delay",
    type=click.IntRange(0, 365),
    default=0,
    show_default=True,
    help="Labels of up to this many days after --date count.",
)
@click.option(
    "--missing-label",
    type=click.Choice(["reject", "negative"]),
    default="reject",
    show_default=True,
    help="Impressions without a label: leave them out, or not clicked (the label log has clicks only).",
)
@tracking_option
@profile_option
@job
def evaluate(
    date, first, last, scores_path, labels_path, labels_data, key, max_delay, missing_label, tracking_uri,
    profile_path,
) -> dict:  # fmt: skip
    profile = load_profile(profile_path)
    days = parse_days(date, first, last)
    names = tuple(name.strip() for name in key.split(",") if name.strip())
    if not names:
        raise UserError(f"--key: expected columns such as C1,C2, found {key!r}; name those kept when scored")
    options = _label_options(labels_data, max_delay, missing_label)
    scores_url, labels_url = storage.absolute_url(scores_path), storage.absolute_url(labels_path)
    if date:
        _published_day(scores_url, date)  # before Spark starts
    store = open_store(profile.mlflow, tracking_uri)
    with spark_session(profile, "evaluate") as spark, show_progress(spark, "evaluate"):
        evaluator = _DayEvaluator(spark, store, scores_url, labels_url, names, options)
        summaries, failures = do_each(days, evaluator.evaluate, is_batch=date is None)
    if date:
        return summaries[date]
    summary = {"days": list(summaries.values())}
    if failures:
        raise IncompleteError("days", len(days), failures).with_summary(summary)
    return summary


def _published_day(scores_url: str, day: str) -> PublishedDay:
    published = published_day(scores_url, day)
    if published is None:
        raise UserError(f"{day_url(scores_url, day)}: expected a published day, found none; score it first")
    return published


@dataclass(frozen=True)
class _DayEvaluator:
    """Evaluates published days against one log of labels, each for itself."""

    spark: SparkSession
    store: MlflowStore
    scores_url: str
    labels_url: str
    key: tuple[str, ...]
    options: LabelOptions

    def evaluate(self, day: str) -> dict:
        """Compute the metrics of a day, log them, and return its part of the summary."""
        published = _published_day(self.scores_url, day)
        provenance = published.provenance
        version = self.store.resolve(f"models:/{provenance.name}/{provenance.version}")
        with tempfile.TemporaryDirectory() as folder:
            card = load_artifact(f"file://{self.store.download(version, folder)}").card
        lineage = read_lineage(self.store, version, card)
        if warning := seen_days_warning(lineage, day, provenance.input_url):
            logger.warning("%s", warning)
        live = live_metrics(
            self.spark, self.scores_url, day, self.labels_url, card.data, self.key, self.options
        )
        metrics = {**asdict(live.metrics), "calibration": live.metrics.calibration}
        defined = {name: float(value) for name, value in metrics.items() if value is not None}
        finite = {name: value for name, value in defined.items() if math.isfinite(value)}
        model_id, digest = logged_model_id(version), published.input_digest
        trend = log_live_metrics(
            self.store, provenance.name, day, finite, model_id=model_id, input_digest=digest
        )
        return {
            "date": day,
            "name": provenance.name,
            "version": provenance.version,
            **finite,
            "num_rows": live.metrics.num_rows,
            "rows_without_label": live.rows_without_label,
            "labels_without_score": live.labels_without_score,
            "keys_with_several_labels": live.keys_with_several_labels,
            "labels_rejected": live.labels_rejected,
            "warnings": [warning] if warning else [],
            "trend": [
                {"date": other, "auc": metrics.get("auc"), "logloss": metrics.get("logloss")}
                for other, metrics in trend
            ],
        }


def _label_options(labels_data: str | None, max_delay: int, missing_label: str) -> LabelOptions:
    description = load_settings(labels_data, LabelSettings) if labels_data else None
    is_negative = missing_label == "negative"
    if description is not None and description.label is None and not is_negative:
        raise UserError(
            f"{labels_data}: label: null means that each row is a click; add --missing-label negative, or "
            "name the column of the label"
        )
    return LabelOptions(description, max_delay, is_negative)
