"""A day of probabilities: written aside, counted, then made visible by one rename."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timezone

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.dataset.build import REJECTED
from deepfm.errors import UserError
from deepfm.features.parse import is_day
from deepfm.scoring.predict import BAD, OTHER_DAY, SCORED

#: Days are written below this folder first; Spark readers pass over names that begin with _.
_ATTEMPTS = "_attempts"


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


def published_day(spark: SparkSession, output_url: str, day: str) -> PublishedDay | None:
    """The day as it was published; None where it is not."""
    if not storage.exists(day_url(output_url, day)):
        return None
    rejected_url = f"{output_url}/{REJECTED}/ds={day}"
    num_bad = spark.read.text(rejected_url).count() if storage.exists(rejected_url) else 0
    return _described(spark.read.parquet(day_url(output_url, day)), num_bad)


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
    rows = rows.persist()
    try:
        # One pass fills the cache; what is published and what is set aside are both written from it.
        _scored(rows, model, keep).write.parquet(f"{attempt}/{SCORED}")
        rows.filter(F.col("kind") == BAD).select("source_file", "text", "reason").write.json(
            f"{attempt}/{BAD}"
        )
        num_other = rows.filter(F.col("kind") == OTHER_DAY).count()
    finally:
        rows.unpersist()
    num_bad = spark.read.text(f"{attempt}/{BAD}").count()
    written = spark.read.parquet(f"{attempt}/{SCORED}")
    num_scored = written.count()
    if num_scored + num_bad + num_other != num_raw:
        raise RuntimeError(
            f"{num_raw} rows were read, but {num_scored} scored + {num_bad} bad + {num_other} of other days "
            "came out; the log changed while it was read, nothing was published: run again"
        )
    _replace(f"{attempt}/{BAD}", f"{output_url}/{REJECTED}", day, attempt, wanted=num_bad > 0)
    if num_bad > max_bad_fraction * (num_scored + num_bad):
        storage.remove(attempt)
        raise UserError(
            f"{day}: {num_bad} of {num_scored + num_bad} rows do not fit, more than max_bad_fraction "
            f"{max_bad_fraction}; nothing was published, see {output_url}/{REJECTED}/ds={day}"
        )
    if not num_scored:
        storage.remove(attempt)
        raise UserError(f"{day}: expected impressions, found none in the input; check --date and --input")
    described = _described(written, num_bad)
    _replace(f"{attempt}/{SCORED}", output_url, day, attempt, wanted=True)
    storage.remove(attempt)
    return described


def _scored(rows: DataFrame, model: tuple[str, str], keep: tuple[tuple[str, str], ...]) -> DataFrame:
    """The columns a published day has."""
    scored_at = datetime.now(timezone.utc).replace(microsecond=0)
    return rows.filter(F.col("kind") == SCORED).select(
        *[F.col(f"`{name}`").cast(kind).alias(name) for name, kind in keep],
        "probability",
        F.lit(model[0]).alias("model_name"),
        F.lit(model[1]).alias("model_version"),
        F.lit(scored_at).cast("timestamp").alias("scored_at"),
    )


def _described(day: DataFrame, num_bad: int) -> PublishedDay:
    found = day.agg(
        F.count("*").alias("num"),
        F.avg("probability").alias("mean"),
        F.first("model_name").alias("name"),
        F.first("model_version").alias("version"),
    ).first()
    return PublishedDay(found.num, num_bad, found.name, found.version, found.mean)


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
