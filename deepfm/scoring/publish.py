"""A day of probabilities: written aside, counted, then made visible by one rename."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.dataset.build import REJECTED
from deepfm.errors import UserError
from deepfm.features.parse import is_day
from deepfm.scoring.predict import BAD, OTHER_DAY, SCORED, kept_as

#: Days are written below this folder first; Spark readers pass over names that begin with _.
_ATTEMPTS = "_attempts"
#: Within a day: its PublishedDay as JSON, so that it becomes visible and is replaced together with its rows.
_SUMMARY = "_summary.json"
#: Columns of a published day beside the kept ones; its readers see ds as well.
_OWN_COLUMNS = ("probability", "model_name", "model_version", "scored_at", "ds")


@dataclass(frozen=True)
class PublishedDay:
    """What stands in OUTPUT/ds=DATE."""

    rows_scored: int
    rows_bad: int
    name: str
    version: str
    mean_probability: float

    @property
    def rows_in(self) -> int:
        return self.rows_scored + self.rows_bad


def day_url(output_url: str, day: str) -> str:
    """Where a day is published; UserError for what is no day, so no date can name another folder."""
    if not is_day(day):
        raise UserError(f"--date: expected a day YYYY-MM-DD, found {day}")
    return f"{output_url}/ds={day}"


def require_keepable(keep: Sequence[str]) -> None:
    """UserError where kept columns would meet each other or the day's own; Spark ignores case."""
    names = [name.lower() for name in (*_OWN_COLUMNS, *keep)]
    repeated = [name for name in keep if names.count(name.lower()) > 1]
    if repeated:
        raise UserError(
            f"--keep: {', '.join(repeated)} would be there twice; a published day has "
            f"{', '.join(_OWN_COLUMNS)} of its own: leave them out and name each other column once"
        )


def published_day(output_url: str, day: str) -> PublishedDay | None:
    """The day as it was published; None where it is not, UserError where something else stands there."""
    where = day_url(output_url, day)
    if not storage.exists(where):
        return None
    try:
        return PublishedDay(**storage.read_json(f"{where}/{_SUMMARY}"))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{where}: expected a day that score.py published, found {error}; --overwrite replaces it"
        ) from error


def publish_day(
    spark: SparkSession,
    rows: DataFrame,
    *,
    num_raw: int,
    model: tuple[str, str],
    day: str,
    keep: tuple[tuple[str, str], ...],
    max_bad_fraction: float,
    output_url: str,
) -> PublishedDay:
    """Publish scored rows (see predict.scored_rows) in place of what the day has now.

    `num_raw` is what Spark counted in the input, `model` a name and version, `keep` columns and their Spark
    types. Nothing is published, and the day that stands stays, where the rows do not add up or more than
    `max_bad_fraction` of them do not fit: those are then found in OUTPUT/_rejected/ds=DATE.
    """
    storage.make_folder(f"{output_url}/{_ATTEMPTS}")
    _remove_attempts(output_url, day)
    attempt = f"{output_url}/{_ATTEMPTS}/ds={day}.{uuid.uuid4().hex}"
    try:
        described = _write_aside(spark, rows, num_raw, model, keep, attempt)
        _replace(f"{attempt}/{BAD}", f"{output_url}/{REJECTED}", day, attempt, wanted=described.rows_bad > 0)
        _check_rows(described, day, max_bad_fraction, f"{output_url}/{REJECTED}/ds={day}")
    except BaseException:
        storage.remove(attempt)
        raise
    # Outside the try: until the new day stands, the attempt may hold the old one.
    _replace(f"{attempt}/{SCORED}", output_url, day, attempt, wanted=True)
    storage.remove(attempt)
    return described


def _write_aside(
    spark: SparkSession,
    rows: DataFrame,
    num_raw: int,
    model: tuple[str, str],
    keep: tuple[tuple[str, str], ...],
    attempt: str,
) -> PublishedDay:
    """Write scored and bad rows below `attempt`; RuntimeError where they are not all that were read."""
    rows = rows.persist()
    try:
        # One pass fills the cache; what is published and what is set aside are both written from it.
        _scored(rows, model, keep).write.parquet(f"{attempt}/{SCORED}")
        bad = rows.filter(F.col("kind") == BAD).select("source_file", "text", "reason")
        bad.write.json(f"{attempt}/{BAD}")
        num_other = rows.filter(F.col("kind") == OTHER_DAY).count()
    finally:
        rows.unpersist()
    num_bad = spark.read.text(f"{attempt}/{BAD}").count()
    found = (
        spark.read.parquet(f"{attempt}/{SCORED}")
        .agg(F.count("*").alias("num"), F.avg("probability").alias("mean"))
        .first()
    )
    if found.num + num_bad + num_other != num_raw:
        raise RuntimeError(
            f"{num_raw} rows were read, but {found.num} scored + {num_bad} bad + {num_other} of other days "
            "came out; the log changed while it was read, nothing was published: run again"
        )
    described = PublishedDay(found.num, num_bad, *model, found.mean)
    storage.write_json(f"{attempt}/{SCORED}/{_SUMMARY}", asdict(described))
    return described


def _check_rows(described: PublishedDay, day: str, max_bad_fraction: float, rejected_url: str) -> None:
    if described.rows_bad > max_bad_fraction * described.rows_in:
        raise UserError(
            f"{day}: {described.rows_bad} of {described.rows_in} rows do not fit, more than max_bad_fraction "
            f"{max_bad_fraction}; nothing was published, see {rejected_url}"
        )
    if not described.rows_scored:
        raise UserError(f"{day}: expected impressions, found none in the input; check --date and --input")


def _scored(rows: DataFrame, model: tuple[str, str], keep: tuple[tuple[str, str], ...]) -> DataFrame:
    """The columns a published day has."""
    scored_at = datetime.now(timezone.utc).replace(microsecond=0)
    return rows.filter(F.col("kind") == SCORED).select(
        *[F.col(f"`{kept_as(name)}`").cast(kind).alias(name) for name, kind in keep],
        "probability",
        F.lit(model[0]).alias("model_name"),
        F.lit(model[1]).alias("model_version"),
        F.lit(scored_at).cast("timestamp").alias("scored_at"),
    )


def _replace(source: str, folder: str, day: str, attempt: str, *, wanted: bool) -> None:
    """Move `source` to FOLDER/ds=DAY; what was there goes to the attempt first: old, new or absent."""
    target = f"{folder}/ds={day}"
    storage.make_folder(folder)
    if storage.exists(target):
        storage.rename(target, f"{attempt}/replaced-{uuid.uuid4().hex}")
    if wanted:
        storage.rename(source, target)


def _remove_attempts(output_url: str, day: str) -> None:
    """What a killed run left of this day."""
    for child in storage.children(f"{output_url}/{_ATTEMPTS}"):
        if child["name"].startswith(f"ds={day}."):
            storage.remove(f"{output_url}/{_ATTEMPTS}/{child['name']}")
