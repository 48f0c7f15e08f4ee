"""A day of probabilities: written aside, counted, then made visible by one rename."""

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.dataset.build import REJECTED
from deepfm.errors import JobFailedError, UserError
from deepfm.scoring.accumulators import ScoringDayTotals, total_of
from deepfm.scoring.days import DRIFT, PROVENANCE, REPORT, PublishedDay
from deepfm.scoring.predict import BAD, OTHER_DAY, SCORED, TOTALS, UNDATED, kept_as

#: Days are written below this folder first; Spark readers pass over names that begin with _.
_ATTEMPTS = "_attempts"
#: Where an attempt keeps the day that stood, until the new one stands.
_REPLACED = "replaced"


@dataclass(frozen=True)
class DriftDecision:
    """What is said of a night before it is published."""

    warnings: tuple[str, ...]
    document: dict | None = None
    page: str | None = None
    stop: bool = False


def publish_day(
    spark: SparkSession,
    rows: DataFrame,
    *,
    num_raw: int,
    described: PublishedDay,
    day: str,
    keep: tuple[tuple[str, str], ...],
    num_fields: int,
    max_bad_fraction: float,
    judge: Callable[[ScoringDayTotals, float], DriftDecision],
    output_url: str,
    key: tuple[str, ...] = (),
) -> PublishedDay:
    """Publish scored rows (see predict.scored_rows) in place of what the day has now.

    `num_raw` is what Spark counted in the input, `described` what is known of the day before it is scored,
    `keep` columns and their Spark types, `key` those that tell two impressions apart. Nothing is published,
    and the day that stands stays, where the rows do not add up, a probability is none, a key is there twice,
    more than `max_bad_fraction` of the day's rows do not fit, or so many of the whole log's tell no day that
    can be read (both are then found in OUTPUT/_rejected/ds=DATE), or `judge`, given the night's totals and
    its mean probability, says stop.
    """
    storage.make_folder(f"{output_url}/{_ATTEMPTS}")
    _clear_attempts(output_url, day)
    attempt = f"{output_url}/{_ATTEMPTS}/ds={day}.{uuid.uuid4().hex}"
    try:
        described, totals, num_undated = _write_aside(
            spark, rows, num_raw, described, keep, num_fields, attempt
        )
        rejected = f"{output_url}/{REJECTED}/ds={day}"
        storage.remove(rejected)
        if described.rows_bad:
            storage.make_folder(f"{output_url}/{REJECTED}")
            storage.rename(f"{attempt}/{BAD}", rejected)
        _check_rows(spark, described, day, max_bad_fraction, rejected, num_undated, num_raw)
        _check_probabilities_and_keys(spark.read.parquet(f"{attempt}/{SCORED}"), key, day)
        judgement = judge(totals, described.mean_probability)
        if judgement.stop:
            raise UserError(f"{day}: nothing was published: {'; '.join(judgement.warnings)}")
        described = replace(described, warnings=judgement.warnings)
        _describe(f"{attempt}/{SCORED}", described, judgement)
    except BaseException:
        storage.remove(attempt)
        raise
    # Outside the try: until the new day stands, the attempt may hold the old one.
    target = f"{output_url}/ds={day}"
    try:
        if storage.exists(target):
            _move(target, f"{attempt}/{_REPLACED}")
        _move(f"{attempt}/{SCORED}", target)
    except FileNotFoundError as error:
        raise JobFailedError(
            f"{day}: what was scored is gone: another run of this day began meanwhile; run one at a time"
        ) from error
    storage.remove(attempt)
    return described


def _write_aside(
    spark: SparkSession,
    rows: DataFrame,
    num_raw: int,
    described: PublishedDay,
    keep: tuple[tuple[str, str], ...],
    num_fields: int,
    attempt: str,
) -> tuple[PublishedDay, ScoringDayTotals, int]:
    """Write scored and bad rows below `attempt`; RuntimeError where they are not all that were read.

    The last of what is returned: how many of the bad ones are undated.
    """
    rows = rows.persist()
    try:
        # One pass fills the cache; what is published and what is set aside are both written from it.
        _scored(rows, described, keep).write.parquet(f"{attempt}/{SCORED}")
        bad = rows.filter(F.col("kind").isin(BAD, UNDATED)).select("source_file", "text", "reason")
        bad.write.json(f"{attempt}/{BAD}")
        by_kind = {row["kind"]: row["count"] for row in rows.groupBy("kind").count().collect()}
        parts = rows.filter(F.col("kind") == TOTALS).select("text").collect()
    finally:
        rows.unpersist()
    totals = total_of((part.text for part in parts), num_fields)
    num_other, num_undated = by_kind.get(OTHER_DAY, 0), by_kind.get(UNDATED, 0)
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
    described = replace(
        described,
        rows_scored=found.num,
        rows_bad=num_bad,
        mean_probability=found.mean,
        input_digest=totals.digest,
        scored_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return described, totals, num_undated


def _describe(folder: str, described: PublishedDay, judgement: DriftDecision) -> None:
    storage.write_json(f"{folder}/{PROVENANCE}", asdict(described))
    if judgement.document is not None:
        storage.write_json(f"{folder}/{DRIFT}", judgement.document)
    if judgement.page is not None:
        storage.write_bytes(f"{folder}/{REPORT}", judgement.page.encode())


def _check_probabilities_and_keys(scored: DataFrame, key: tuple[str, ...], day: str) -> None:
    probability = F.col("probability")
    # Spark holds nan for greater than any number.
    wrong = probability.isNull() | F.isnan(probability) | (probability < 0) | (probability > 1)
    num_wrong = scored.filter(wrong).count()
    if num_wrong:
        raise UserError(
            f"{day}: {num_wrong} probabilities are no numbers from 0 to 1; nothing was published: the model "
            "is broken, take it back with promote.py --rollback"
        )
    if key:
        twice = (
            scored.groupBy(*[F.col(f"`{name}`") for name in key]).count().filter(F.col("count") > 1).first()
        )
        if twice:
            found = ", ".join(f"{name} {twice[name]}" for name in key)
            raise UserError(
                f"{day}: expected each {', '.join(key)} once, found {found} {twice['count']} times; nothing "
                "was published: mend the log or give another --key"
            )


def _check_rows(
    spark: SparkSession,
    described: PublishedDay,
    day: str,
    max_bad_fraction: float,
    rejected_url: str,
    num_undated: int,
    num_raw: int,
) -> None:
    # An undated row may be of any of the log's days, of which a log may gather many.
    num_bad, num_rows = described.rows_bad - num_undated, described.rows_in - num_undated
    if num_undated > max_bad_fraction * num_raw:
        num_bad, num_rows = num_undated, num_raw
    if num_bad > max_bad_fraction * num_rows:
        by_reason = spark.read.json(rejected_url).groupBy("reason").count().orderBy("reason").collect()
        reasons = ", ".join(f"{row['count']} {row.reason}" for row in by_reason)
        raise UserError(
            f"{day}: {num_bad} of {num_rows} rows do not fit ({reasons}), more than "
            f"max_bad_fraction {max_bad_fraction}; nothing was published, see {rejected_url}: mend the log; "
            f"or is {described.name} a model of another one?"
        )
    if not described.rows_scored:
        raise UserError(f"{day}: expected impressions, found none in the input; check --date and --input")


def _scored(rows: DataFrame, described: PublishedDay, keep: tuple[tuple[str, str], ...]) -> DataFrame:
    """The columns a published day has; none says when it was scored: the same inputs give the same rows."""
    return rows.filter(F.col("kind") == SCORED).select(
        *[F.col(f"`{kept_as(name)}`").cast(kind).alias(name) for name, kind in keep],
        "probability",
        F.lit(described.name).alias("model_name"),
        F.lit(described.version).alias("model_version"),
    )


def _move(source: str, target: str) -> None:
    """Rename a day's folder; where that is a copy, what says that the day is published comes last."""
    mark = f"{source}/{PROVENANCE}"
    if storage.has_atomic_rename(source) or not storage.exists(mark):
        storage.rename(source, target)
        return
    provenance = storage.read_bytes(mark)
    storage.remove(mark)
    storage.rename(source, target)
    storage.write_bytes(f"{target}/{PROVENANCE}", provenance)


def _clear_attempts(output_url: str, day: str) -> None:
    """Remove what a killed run left of this day, and put the day back that it was about to replace."""
    target = f"{output_url}/ds={day}"
    for child in storage.children(f"{output_url}/{_ATTEMPTS}"):
        if child["name"].startswith(f"ds={day}."):
            attempt = f"{output_url}/{_ATTEMPTS}/{child['name']}"
            if storage.exists(f"{attempt}/{_REPLACED}") and not storage.exists(target):
                _move(f"{attempt}/{_REPLACED}", target)
            storage.remove(attempt)
