"""Score one day of impressions, or several days in order, and publish the probabilities.

Example:

    spark-submit jobs/score.py --date 2026-01-08 --model-uri models:/ctr_deepfm@champion \\
        --input work/log --output work/scores --keep impression_id \\
        --key impression_id
"""

from dataclasses import asdict
from typing import Any

import click

from deepfm import storage
from deepfm.cli.job import JobCommand, job, load_profile, profile_option, tracking_option
from deepfm.cli.spark.progress import show_progress
from deepfm.cli.spark.session import spark_session
from deepfm.errors import UserError
from deepfm.scoring.daily_runs import log_published_day
from deepfm.scoring.days import (
    PublishedDay,
    day_url,
    parse_days,
    published_day,
    read_drift,
    require_keepable,
    require_kept,
)
from deepfm.scoring.input_day import require_day_of_input
from deepfm.scoring.score_day import ScoringDay, check_day, fetch_model, score_day
from deepfm.tracking.store import open_store

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
    published = {} if overwrite or dry_run else {day: published_day(output_url, day) for day in days}
    done = {day: existing for day, existing in published.items() if existing}
    for day in done:
        require_kept(output_url, day, done[day], keep)
        click.echo(f"{day_url(output_url, day)} is already published; --overwrite scores it again", err=True)
    summaries = {
        day: _published_summary(day, existing, day_url(output_url, day)) for day, existing in done.items()
    }
    if len(done) < len(days):
        with spark_session(profile, "score") as spark, show_progress(spark, "score"):
            model = fetch_model(spark, store, version)
            remaining = [day for day in days if day not in done]
            require_day_of_input(input_url, remaining, model.model.card.data)
            for day in remaining:
                scoring_day = ScoringDay(day, input_url, output_url, keep, key)
                url, precision = day_url(output_url, day), profile.scoring.precision
                if dry_run:
                    checked = check_day(spark, model, scoring_day, precision=precision)
                    summaries[day] = _summary(day, {**_NOT_SCORED, **asdict(checked)}, 0, url)
                    continue
                scored = score_day(spark, model, scoring_day, limits, precision=precision)
                for warning in scored.warnings:
                    click.echo(f"warning: {day}: {warning}", err=True)
                log_published_day(store, url, day, scored)
                summaries[day] = _published_summary(day, scored, url, published_now=True)
    if date:
        return summaries[date]
    ordered = [summaries[day] for day in days]
    return {"days": ordered, "published_now": sum(summary["published_now"] for summary in ordered)}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _published_summary(day: str, published: PublishedDay, url: str, *, published_now: bool = False) -> dict:
    drift = read_drift(url)
    document = {**published.to_document(), "psi": drift["psi"] if drift else None}
    return _summary(day, document, published.rows_in, url, published_now=published_now)


def _summary(day: str, document: dict, rows_in: int, output: str, *, published_now: bool = False) -> dict:
    details = {key: value for key, value in document.items() if key not in ("code_version", "input_url")}
    return {"date": day, "rows_in": rows_in, **details, "output": output, "published_now": published_now}
