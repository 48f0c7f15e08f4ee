"""Dataset profile (profile.json): statistics of the written rows."""

import logging
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.dataset.manifest import Manifest
from deepfm.dataset.profiling.field_profile import FieldProfile, ProfileWarning, field_warnings, profile_field
from deepfm.dataset.profiling.id_counts import id_counts
from deepfm.dataset.profiling.value_names import printable
from deepfm.features.statistics import RowCounts
from deepfm.features.vocabulary.chunked import AnyVocabulary
from deepfm.settings.loader import Settings, parse_settings

logger = logging.getLogger(__name__)

PROFILE = "profile.json"
#: Examples of rejected rows per reason, and their maximum length.
NUM_EXAMPLES = 3
_MAX_EXAMPLE_CHARACTERS = 300


class Rows(Settings):
    """Impressions of a day or a split; split `outside`: read, but in no split."""

    day: str  # "" for all
    split: str
    num_rows: int
    ctr: float  # weighted if the rows have weights


class RejectedRows(Settings):
    """Rejected rows with one reason."""

    reason: str
    num_rows: int
    examples: tuple[str, ...]  # raw texts


class DatasetProfile(Settings):
    """Statistics of a dataset."""

    format_version: Literal[1] = 1
    digest: str  # of the dataset
    log_url: str
    splits: tuple[Rows, ...]
    days: tuple[Rows, ...]  # empty if the log has no days
    set_aside: tuple[RejectedRows, ...]  # rejected rows
    fields: tuple[FieldProfile, ...]
    warnings: tuple[ProfileWarning, ...]


@dataclass(frozen=True)
class LogSummary:
    """Statistics of the log that the written dataset does not contain."""

    counts: RowCounts
    num_values: dict[int, int]  # by field: distinct values in the training rows
    examples: dict[str, list[str]]  # see rejected_examples
    num_truncated: dict[int, int]  # by list field, see LogStatistics.num_truncated
    warnings: tuple[ProfileWarning, ...] = ()  # about the whole log


def rejected_examples(rejected: DataFrame) -> dict[str, list[str]]:
    """Map (source_file, text, reason) rows to {reason: NUM_EXAMPLES texts}, the first by file and text."""
    first = Window.partitionBy("reason").orderBy("source_file", "text")
    numbered = rejected.withColumn("number", F.row_number().over(first))
    few = numbered.filter(F.col("number") <= NUM_EXAMPLES)
    # Truncate before collecting: a line may be as long as its file.
    text = F.substring("text", 1, _MAX_EXAMPLE_CHARACTERS + 1).alias("text")
    examples: dict[str, list[str]] = {}
    for row in few.select("reason", "number", text).orderBy("reason", "number").collect():
        examples.setdefault(row.reason, []).append(printable(row.text or "", _MAX_EXAMPLE_CHARACTERS))
    return examples


def profile_dataset(
    spark: SparkSession, url: str, manifest: Manifest, vocabulary: AnyVocabulary, log: LogSummary
) -> DatasetProfile:
    """Read each written split once and return its statistics; each warning is also logged."""
    with storage.scratch_folder(url) as scratch_url:
        sums = id_counts(spark, url, manifest, scratch_url)
    num_train = manifest.splits["train"].num_rows
    fields = [
        profile_field(
            vocabulary,
            index,
            sums[sums["field"] == index],
            log.num_values.get(index),
            log.num_truncated.get(index, 0) / num_train,
        )
        for index in range(len(manifest.fields))
    ]
    warnings = [*log.warnings, *(warning for field in fields for warning in field_warnings(field))]
    for warning in warnings:
        logger.warning("%s: %s", warning.name, warning.text)
    return DatasetProfile(
        digest=manifest.digest,
        log_url=manifest.input.url,
        splits=tuple(rows for name in log.counts.by_day for rows in _split_total(log.counts, name)),
        days=tuple(_rows_by_day(log.counts)),
        set_aside=tuple(
            RejectedRows(reason=reason, num_rows=num, examples=tuple(log.examples.get(reason, ())))
            for reason, num in log.counts.bad_by_reason.items()
        ),
        fields=tuple(fields),
        warnings=tuple(warnings),
    )


def write_dataset_profile(url: str, profile: DatasetProfile) -> None:
    """Write the profile into the dataset's folder."""
    storage.write_json(f"{url}/{PROFILE}", profile.model_dump(mode="json"))


def read_dataset_profile(url: str) -> DatasetProfile:
    """Read the profile of a dataset."""
    location = f"{url}/{PROFILE}"
    return parse_settings(storage.read_json(location), DatasetProfile, location)


def clicks_warnings(url: str) -> list[str]:
    """Return the warnings about splits and days of a dataset without a click; empty without a profile."""
    if not storage.exists(f"{url}/{PROFILE}"):
        return []
    return [warning.text for warning in read_dataset_profile(url).warnings if warning.name == "no_clicks"]


def _split_total(counts: RowCounts, split: str) -> list[Rows]:
    num_rows = counts.num_rows(split)
    impressions, clicks = (
        sum(numbers) for numbers in zip((0, 0), *counts.totals(split).values(), strict=True)
    )
    return [Rows(day="", split=split, num_rows=num_rows, ctr=_ctr(impressions, clicks))] if num_rows else []


def _rows_by_day(counts: RowCounts) -> list[Rows]:
    rows = [
        Rows(day=day, split=split, num_rows=num_rows, ctr=_ctr(*counts.totals(split)[day]))
        for split, days in counts.by_day.items()
        for day, (num_rows, _) in days.items()
        if day
    ]
    return sorted(rows, key=lambda day_rows: day_rows.day)


def _ctr(impressions: float, clicks: float) -> float:
    """CTR of rows, 0 if all their weights are 0."""
    return clicks / impressions if impressions else 0.0
