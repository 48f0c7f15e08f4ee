"""Publish a day of probabilities: write it to a new folder, check it, make it visible by one rename.

In an object store, which has no rename, the day stays in that folder, and one small file names it.
"""

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.click_log.rejected_rows import REJECTED
from deepfm.environment_faults import explain_faults
from deepfm.errors import JobFailedError, UserError
from deepfm.ownership import Ownership
from deepfm.scoring.accumulators import ScoringDayTotals, sum_partitions
from deepfm.scoring.days import DRIFT, PROVENANCE, REPORT, Provenance, PublishedDay, write_pointer
from deepfm.scoring.predict import BAD, OTHER_DAY, SCORED, TOTALS, UNDATED, kept_column
from deepfm.scoring.publishing.day_checks import check_probabilities_and_keys, check_rows
from deepfm.scoring.publishing.day_output import DayOutput, WrittenRows
from deepfm.scoring.publishing.day_versions import ATTEMPTS, clear_attempts, replace_day
from deepfm.spark.parts import read_parquet_parts, write_json_parts, write_parquet_parts


@dataclass(frozen=True)
class DriftDecision:
    """Drift warnings of a day, its report, and whether publishing must stop."""

    warnings: tuple[str, ...]
    document: dict | None = None
    page: str | None = None
    stop: bool = False


@dataclass(frozen=True)
class ScoredRows:
    """Rows of `predict.score_rows` and the sizes to check them against."""

    rows: DataFrame
    num_input_rows: int  # counted by Spark in the input, independently of scoring
    num_fields: int


def publish_day(
    spark: SparkSession,
    scored: ScoredRows,
    provenance: Provenance,
    output: DayOutput,
    check_drift: Callable[[ScoringDayTotals, float], DriftDecision],
    ownership: Ownership,
) -> PublishedDay:
    """Publish scored rows and replace the day's previous version; this process owns the day.

    Nothing is published, and a previous version stays, if the rows do not add up to the input, a probability
    is invalid, a key occurs twice, more than `max_bad_fraction` of the day's rows are bad, or so many rows of
    the whole log have no readable day (bad rows are in OUTPUT/_rejected/ds=DATE), or if `check_drift`, called
    with the day's totals and mean probability, says stop.
    """
    storage.make_folder(f"{output.output_url}/{ATTEMPTS}")
    clear_attempts(output.output_url, output.day)
    attempt = f"{output.output_url}/{ATTEMPTS}/ds={output.day}.{uuid.uuid4().hex}"
    try:
        # Faults are explained before the clean-up, which may free the space of a full disk.
        with explain_faults(f"{output.day}: nothing was published", output.output_url):
            published = _write_and_check(spark, scored, provenance, output, attempt, check_drift, ownership)
    except BaseException:
        with suppress(*storage.FAILURES):  # a read-only filesystem; the next run removes the attempt
            storage.remove(attempt)
        raise
    ownership.require()
    # Outside the try: until the new day is in place, the attempt may hold the old one.
    if storage.is_object_store(output.output_url):
        # The previous version stays until the next run of this day, for those who read it now.
        version = f"{attempt}/{SCORED}".removeprefix(f"{output.output_url}/")
        write_pointer(output.output_url, output.day, version)
        return published
    replace_day(output, attempt)
    storage.remove(attempt)
    return published


def _write_and_check(
    spark: SparkSession,
    scored: ScoredRows,
    provenance: Provenance,
    output: DayOutput,
    attempt: str,
    check_drift: Callable[[ScoringDayTotals, float], DriftDecision],
    ownership: Ownership,
) -> PublishedDay:
    """Write the day below `attempt` and check it; raise UserError if it must not be published."""
    written = _write_attempt(spark, scored, provenance, output, attempt)
    scored_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    ownership.require()
    storage.remove(output.rejected_url)
    if written.num_bad:
        storage.make_folder(f"{output.output_url}/{REJECTED}")
        storage.rename(f"{attempt}/{BAD}", output.rejected_url)
    check_rows(written, output, scored.num_input_rows, provenance.name)
    check_probabilities_and_keys(read_parquet_parts(spark, f"{attempt}/{SCORED}"), output)
    decision = check_drift(written.totals, written.mean_probability)
    if decision.stop:
        raise UserError(f"{output.day}: nothing was published: {'; '.join(decision.warnings)}")
    published = PublishedDay(
        provenance,
        rows_scored=written.num_scored,
        rows_bad=written.num_bad,
        mean_probability=written.mean_probability,
        input_digest=written.totals.digest,
        scored_at=scored_at,
        warnings=decision.warnings,
    )
    _write_reports(f"{attempt}/{SCORED}", published, decision)
    return published


def _write_attempt(
    spark: SparkSession, scored: ScoredRows, provenance: Provenance, output: DayOutput, attempt: str
) -> WrittenRows:
    """Write scored and bad rows below `attempt`; raise JobFailedError if they do not add up to the input."""
    rows = scored.rows.persist()
    try:
        # One pass fills the cache; published and rejected rows are both written from it.
        write_parquet_parts(_published_columns(rows, provenance, output), f"{attempt}/{SCORED}")
        bad = rows.filter(F.col("kind").isin(BAD, UNDATED)).select("source_file", "text", "reason")
        num_bad = write_json_parts(bad, f"{attempt}/{BAD}")
        by_reason = bad.groupBy("reason").count().orderBy("reason").collect()
        by_kind = {row["kind"]: row["count"] for row in rows.groupBy("kind").count().collect()}
        parts = rows.filter(F.col("kind") == TOTALS).select("text").collect()
    finally:
        rows.unpersist()
    num_other_day, num_undated = by_kind.get(OTHER_DAY, 0), by_kind.get(UNDATED, 0)
    summary = (
        read_parquet_parts(spark, f"{attempt}/{SCORED}")
        .agg(F.count("*").alias("num_rows"), F.avg("probability").alias("mean"))
        .first()
    )
    assert summary is not None
    if summary.num_rows + num_bad + num_other_day != scored.num_input_rows:
        raise JobFailedError(
            f"{scored.num_input_rows} rows were read, but {summary.num_rows} scored + {num_bad} bad + "
            f"{num_other_day} of other days were written; the log changed while it was read, nothing was "
            "published: run again"
        )
    totals = sum_partitions((part.text for part in parts), scored.num_fields)
    bad_by_reason = {row.reason: row["count"] for row in by_reason}
    return WrittenRows(summary.num_rows, num_bad, num_undated, bad_by_reason, summary.mean, totals)


def _write_reports(folder: str, published: PublishedDay, decision: DriftDecision) -> None:
    storage.write_json(f"{folder}/{PROVENANCE}", published.to_document())
    if decision.document is not None:
        storage.write_json(f"{folder}/{DRIFT}", decision.document)
    if decision.page is not None:
        storage.write_bytes(f"{folder}/{REPORT}", decision.page.encode())


def _published_columns(rows: DataFrame, provenance: Provenance, output: DayOutput) -> DataFrame:
    """Select the columns of a published day; no time of scoring, so that equal inputs give equal rows."""
    return rows.filter(F.col("kind") == SCORED).select(
        *[F.col(f"`{kept_column(name)}`").alias(name) for name in output.keep],
        "probability",
        F.lit(provenance.name).alias("model_name"),
        F.lit(provenance.version).alias("model_version"),
    )
