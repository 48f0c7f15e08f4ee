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
from deepfm.ownership import Ownership, exclusive_ownership
from deepfm.scoring.accumulators import ScoringDayTotals, sum_partitions
from deepfm.scoring.days import (
    DRIFT,
    PROVENANCE,
    REPORT,
    Provenance,
    PublishedDay,
    published_version,
    write_pointer,
)
from deepfm.scoring.predict import BAD, OTHER_DAY, SCORED, TOTALS, UNDATED, kept_column
from deepfm.spark.parts import read_parquet_parts, write_json_parts, write_parquet_parts

#: Days are first written below this folder; Spark readers skip names that begin with an underscore.
ATTEMPTS = "_attempts"
#: Folder of an attempt that holds the previously published day until the new one is in place.
REPLACED = "replaced"


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


@dataclass(frozen=True)
class DayOutput:
    """Folder, columns and limits of a day to publish."""

    day: str
    output_url: str
    keep: tuple[str, ...]  # columns of the input
    max_bad_fraction: float
    key: tuple[str, ...] = ()  # kept columns that identify an impression

    @property
    def url(self) -> str:
        return f"{self.output_url}/ds={self.day}"

    @property
    def rejected_url(self) -> str:
        return f"{self.output_url}/{REJECTED}/ds={self.day}"


@dataclass(frozen=True)
class _WrittenRows:
    """Counts of the rows that an attempt has written."""

    num_scored: int
    num_bad: int  # includes undated rows
    num_undated: int
    bad_by_reason: dict[str, int]
    mean_probability: float
    totals: ScoringDayTotals


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
    _clear_attempts(output.output_url, output.day)
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
    _replace_day(output, attempt)
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
    _check_rows(written, output, scored.num_input_rows, provenance.name)
    _check_probabilities_and_keys(read_parquet_parts(spark, f"{attempt}/{SCORED}"), output)
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


def _replace_day(output: DayOutput, attempt: str) -> None:
    """Make the day of an attempt visible, and keep the previous one in the attempt until then."""
    try:
        if storage.exists(output.url):
            _move(output.url, f"{attempt}/{REPLACED}")
        _move(f"{attempt}/{SCORED}", output.url)
    except FileNotFoundError as error:
        raise JobFailedError(
            f"{output.day}: the scored rows are gone: another run of this day has started since; run one at "
            "a time"
        ) from error


def _write_attempt(
    spark: SparkSession, scored: ScoredRows, provenance: Provenance, output: DayOutput, attempt: str
) -> _WrittenRows:
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
    return _WrittenRows(summary.num_rows, num_bad, num_undated, bad_by_reason, summary.mean, totals)


def _write_reports(folder: str, published: PublishedDay, decision: DriftDecision) -> None:
    storage.write_json(f"{folder}/{PROVENANCE}", published.to_document())
    if decision.document is not None:
        storage.write_json(f"{folder}/{DRIFT}", decision.document)
    if decision.page is not None:
        storage.write_bytes(f"{folder}/{REPORT}", decision.page.encode())


def _check_probabilities_and_keys(scored: DataFrame, output: DayOutput) -> None:
    probability = F.col("probability")
    # Spark orders NaN above every number.
    is_invalid = probability.isNull() | F.isnan(probability) | (probability < 0) | (probability > 1)
    num_invalid = scored.filter(is_invalid).count()
    if num_invalid:
        raise UserError(
            f"{output.day}: {num_invalid} probabilities are NaN or outside 0 to 1; nothing was published: "
            "the model is broken, restore the previous one with promote.py --rollback"
        )
    if output.key:
        by_key = scored.groupBy(*[F.col(f"`{name}`") for name in output.key]).count()
        duplicate = by_key.filter(F.col("count") > 1).first()
        if duplicate:
            values = ", ".join(f"{name} {duplicate[name]}" for name in output.key)
            raise UserError(
                f"{output.day}: expected each {', '.join(output.key)} once, found {values} "
                f"{duplicate['count']} times; nothing was published: fix the log or give another --key"
            )


def _check_rows(written: _WrittenRows, output: DayOutput, num_input_rows: int, model_name: str) -> None:
    # An undated row may belong to any day of a log, and a log may hold many days.
    num_bad, num_undated = written.num_bad - written.num_undated, written.num_undated
    num_rows = written.num_scored + num_bad
    if num_undated > output.max_bad_fraction * num_input_rows:
        num_bad, num_rows = num_undated, num_input_rows
    if num_bad > output.max_bad_fraction * num_rows:
        reasons = ", ".join(f"{num} {reason}" for reason, num in written.bad_by_reason.items())
        raise UserError(
            f"{output.day}: {num_bad} of {num_rows} rows do not fit ({reasons}), more than "
            f"max_bad_fraction {output.max_bad_fraction}; nothing was published, see {output.rejected_url}: "
            f"fix the log, or check that {model_name} is a model of this log"
        )
    if not written.num_scored:
        raise UserError(
            f"{output.day}: expected impressions, found none in the input; check --date and --input"
        )


def _published_columns(rows: DataFrame, provenance: Provenance, output: DayOutput) -> DataFrame:
    """Select the columns of a published day; no time of scoring, so that equal inputs give equal rows."""
    return rows.filter(F.col("kind") == SCORED).select(
        *[F.col(f"`{kept_column(name)}`").alias(name) for name in output.keep],
        "probability",
        F.lit(provenance.name).alias("model_name"),
        F.lit(provenance.version).alias("model_version"),
    )


def _move(source: str, target: str) -> None:
    """Rename a day's folder; if a rename is a copy, write the file that marks the day as published last."""
    mark = f"{source}/{PROVENANCE}"
    if storage.has_atomic_rename(source) or not storage.exists(mark):
        storage.rename(source, target)
        return
    provenance = storage.read_bytes(mark)
    storage.remove(mark)
    storage.rename(source, target)
    storage.write_bytes(f"{target}/{PROVENANCE}", provenance)


def recover_day(output_url: str, day: str) -> None:
    """Restore the day that a killed job was replacing; raise JobFailedError if a job is doing so now."""
    url = f"{output_url}/ds={day}"
    if storage.is_object_store(output_url) or storage.exists(f"{url}/{PROVENANCE}"):
        return
    if not _attempts(output_url, day):
        return
    with exclusive_ownership(output_url, f"ds={day}", url, "choose another --output"):
        _clear_attempts(output_url, day)


def _clear_attempts(output_url: str, day: str) -> None:
    """Remove the attempts of killed runs of this day; if one was replacing the day, restore it.

    Without an atomic rename, a part of the day may be at either place. The file that marks a day as published
    is written last, so the folder that has it is complete: the previous version or, if that was not moved
    completely, the new one.
    """
    url = f"{output_url}/ds={day}"
    for attempt in _attempts(output_url, day):
        if storage.is_object_store(output_url):  # nothing was moved
            storage.remove(attempt)
            continue
        was_replacing = storage.exists(url) or storage.exists(f"{attempt}/{REPLACED}")
        for part in (REPLACED, SCORED):
            is_complete = storage.exists(f"{attempt}/{part}/{PROVENANCE}")
            if was_replacing and is_complete and not storage.exists(f"{url}/{PROVENANCE}"):
                storage.remove(url)
                _move(f"{attempt}/{part}", url)
        storage.remove(attempt)


def _attempts(output_url: str, day: str) -> list[str]:
    """URLs of the attempts of a day, without one that is its published version."""
    version = published_version(output_url, day)
    paths = [f"{ATTEMPTS}/{name}" for name in storage.all_names(f"{output_url}/{ATTEMPTS}")]
    paths = [path for path in paths if path.startswith(f"{ATTEMPTS}/ds={day}.")]
    return [f"{output_url}/{path}" for path in paths if version != f"{path}/{SCORED}"]
