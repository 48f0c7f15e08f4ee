"""Score one day of impressions, or several days in order, and publish the probabilities.

Example:

    spark-submit jobs/score.py --date 2026-01-08 --model-uri models:/ctr_deepfm@champion \\
        --input work/log --output work/scores --keep impression_id \\
        --key impression_id

Of several days, those that fail are reported at the end, with an exit status other than 0; the others are
published.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import click
from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.cli.batch import do_each
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.options.common import profile_option, tracking_option
from deepfm.cli.spark.progress import show_progress
from deepfm.cli.spark.session import spark_session
from deepfm.errors import IncompleteError, UserError
from deepfm.scoring.daily_runs import log_published_day
from deepfm.scoring.days import (
    PublishedDay,
    day_url,
    parse_days,
    published_day,
    published_url,
    read_drift,
    require_keepable,
    require_kept,
)
from deepfm.scoring.input_day import require_day_of_input
from deepfm.scoring.publishing.day_versions import recover_day
from deepfm.scoring.score_day import ScoringDay, ScoringModel, check_day, fetch_model, score_day
from deepfm.settings.deployment import DriftLimits
from deepfm.tracking.store import MlflowStore, open_store

#: Values in the summary of a dry run, which scores nothing.
_NOT_SCORED: dict[str, Any] = {
    "rows_scored": 0,
    "rows_bad": 0,
    "mean_probability": None,
    "psi": None,
    "input_digest": "",
    "scored_at": "",
    "warnings": [],
}


@click.command(cls=JobCommand, help=__doc__)
@click.option("--date", help="The day to score, YYYY-MM-DD.")
@click.option("--from", "first", help="First of several days, instead of --date.")
@click.option("--to", "last", help="Last of several days, with --from.")
@click.option("--model-uri", required=True, help="models:/NAME@champion or models:/NAME/VERSION.")
@click.option(
    "--input",
    "input_path",
    required=True,
    help="Impressions as in training, without labels; the log, or the folder or file of --date.",
)
@click.option("--output", "output_path", required=True, help="Folder of published days (ds=DATE).")
@click.option("--keep", default="", help="Input columns to publish unchanged with the probability, C1,C2.")
@click.option("--key", default="", help="Kept columns that identify an impression; duplicates are refused.")
@click.option("--max-psi", type=float, help="Do not publish if the PSI of the scores is above this limit.")
@click.option("--overwrite", is_flag=True, help="Score and publish days again that are already published.")
@click.option("--dry-run", is_flag=True, help="Check model, input and a sample of rows without publishing.")
@tracking_option
@profile_option
@job
def score(
    date, first, last, model_uri, input_path, output_path, keep, key, max_psi, overwrite, dry_run,
    tracking_uri, profile_path,
) -> dict:  # fmt: skip
    profile = load_profile(profile_path)
    input_url, output_url = storage.absolute_url(input_path), storage.absolute_url(output_path)
    days = parse_days(date, first, last)
    keep, key = _names(keep), _names(key)
    if max_psi is not None and not max_psi > 0:
        raise UserError(f"--max-psi: expected a number above 0, found {max_psi:g}; use e.g. 0.25")
    limits = profile.drift if max_psi is None else profile.drift.model_copy(update={"stop_psi": max_psi})
    require_keepable(keep, key)
    store = open_store(profile.mlflow, tracking_uri)
    version = store.resolve(model_uri)
    failures: dict[str, Exception] = {}
    summaries: dict[str, dict] = {}
    if not (overwrite or dry_run):
        skipping = _DaySkipper(output_url, keep)
        found, failures = do_each(days, skipping.find, is_batch=date is None)
        summaries = {day: summary for day, summary in found.items() if summary}
    remaining = [day for day in days if day not in summaries and day not in failures]
    if remaining:
        with spark_session(profile, "score") as spark, show_progress(spark, "score"):
            model = fetch_model(spark, store, version)
            target = ScoringDay("", input_url, output_url, keep, key)
            scorer = _DayScorer(spark, store, model, target, limits, profile.scoring.precision, dry_run)
            scored, failed = do_each(remaining, scorer.score, is_batch=date is None)
            summaries |= scored
            failures |= failed
    if date:
        return summaries[date]
    ordered = [summaries[day] for day in days if day in summaries]
    summary = {"days": ordered, "published_now": sum(day["published_now"] for day in ordered)}
    if failures:
        raise IncompleteError("days", len(days), failures).with_summary(summary)
    return summary


@dataclass(frozen=True)
class _DaySkipper:
    """Finds days that are published already."""

    output_url: str
    keep: tuple[str, ...]

    def find(self, day: str) -> dict | None:
        """Return the summary of a published day with the kept columns; None if it is not published."""
        recover_day(self.output_url, day)
        published = published_day(self.output_url, day)
        if published is None:
            return None
        require_kept(self.output_url, day, published, self.keep)
        url = day_url(self.output_url, day)
        click.echo(f"{url} is already published; --overwrite scores it again", err=True)
        return _published_summary(day, published, self.output_url)


@dataclass(frozen=True)
class _DayScorer:
    """Scores days of one log with one model, each for itself."""

    spark: SparkSession
    store: MlflowStore
    model: ScoringModel
    target: ScoringDay  # the day is that of each call
    limits: DriftLimits
    precision: str
    dry_run: bool

    def score(self, day: str) -> dict:
        """Score and publish a day, or check it in a dry run; return its part of the summary."""
        target, url = replace(self.target, day=day), day_url(self.target.output_url, day)
        require_day_of_input(target.input_url, [day], self.model.model.card.data)
        if self.dry_run:
            checked = check_day(self.spark, self.model, target, precision=self.precision)
            return _summary(day, {**_NOT_SCORED, **asdict(checked)}, 0, url)
        scored = score_day(self.spark, self.model, target, self.limits, precision=self.precision)
        for warning in scored.warnings:
            click.echo(f"warning: {day}: {warning}", err=True)
        log_published_day(self.store, published_url(target.output_url, day), day, scored)
        return _published_summary(day, scored, target.output_url, published_now=True)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _published_summary(
    day: str, published: PublishedDay, output_url: str, *, published_now: bool = False
) -> dict:
    url = published_url(output_url, day)
    drift = read_drift(url)
    document = {**published.to_document(), "psi": drift["psi"] if drift else None}
    return _summary(day, document, published.rows_in, url, published_now=published_now)


def _summary(day: str, document: dict, rows_in: int, output: str, *, published_now: bool = False) -> dict:
    details = {key: value for key, value in document.items() if key not in ("code_version", "input_url")}
    return {"date": day, "rows_in": rows_in, **details, "output": output, "published_now": published_now}
