"""profile.json: what a dataset looks like, in numbers of its rows as they were written."""

import logging
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.dataset.manifest import Manifest
from deepfm.dataset.profiling.field_profile import FieldProfile, Finding, findings_of, profile_field
from deepfm.dataset.profiling.id_counts import id_counts
from deepfm.dataset.profiling.value_names import printable
from deepfm.features.statistics import RowCounts
from deepfm.features.vocabulary.chunked import AnyVocabulary
from deepfm.settings.loader import Settings, parse_settings

logger = logging.getLogger(__name__)

PROFILE = "profile.json"
#: Rows set aside that are shown of each reason, and how much of each.
NUM_EXAMPLES = 3
_MAX_EXAMPLE_CHARACTERS = 300


class Rows(Settings):
    """Impressions of a day or of a split; `outside`: read, but of no split."""

    day: str  # "" for all
    split: str
    num_rows: int
    ctr: float


class RejectedRows(Settings):
    """Rows that do not fit, for one reason."""

    reason: str
    num_rows: int
    examples: tuple[str, ...]  # their texts


class DatasetProfile(Settings):
    """One look at a dataset."""

    format_version: Literal[1] = 1
    digest: str  # the dataset's
    log_url: str
    splits: tuple[Rows, ...]
    days: tuple[Rows, ...]  # none where the log has no days
    set_aside: tuple[RejectedRows, ...]
    fields: tuple[FieldProfile, ...]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True)
class LogFindings:
    """What is seen of a log only while it is surveyed."""

    counts: RowCounts
    num_values: dict[int, int]  # by field: distinct values of the training rows
    examples: dict[str, list[str]]  # see `rejected_examples`
    num_truncated: dict[int, int]  # by field, a list: see Survey.num_truncated


def rejected_examples(rejected: DataFrame) -> dict[str, list[str]]:
    """(source_file, text, reason) rows -> {reason: a few texts}, the first by file and text."""
    first = Window.partitionBy("reason").orderBy("source_file", "text")
    few = rejected.withColumn("place", F.row_number().over(first)).filter(F.col("place") <= NUM_EXAMPLES)
    # Cut before it travels: a line may be as long as its file.
    text = F.substring("text", 1, _MAX_EXAMPLE_CHARACTERS + 1).alias("text")
    examples: dict[str, list[str]] = {}
    for row in few.select("reason", "place", text).orderBy("reason", "place").collect():
        examples.setdefault(row.reason, []).append(printable(row.text or "", _MAX_EXAMPLE_CHARACTERS))
    return examples


def profile_dataset(
    spark: SparkSession,
    url: str,
    manifest: Manifest,
    vocabulary: AnyVocabulary,
    log: LogFindings,
) -> DatasetProfile:
    """Read every split that was written once; what looks wrong is also logged, in a line each."""
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
    warnings = [finding for field in fields for finding in findings_of(field)]
    for finding in warnings:
        logger.warning("%s: %s", finding.name, finding.text)
    by_reason = log.counts.bad_by_reason
    return DatasetProfile(
        digest=manifest.digest,
        log_url=manifest.input.url,
        splits=[rows for name, days in log.counts.by_day.items() for rows in _in_all(name, days)],
        days=_by_day(log.counts),
        set_aside=[
            RejectedRows(reason=reason, num_rows=num, examples=log.examples.get(reason, ()))
            for reason, num in by_reason.items()
        ],
        fields=fields,
        warnings=warnings,
    )


def write_profile(url: str, profile: DatasetProfile) -> None:
    """Write it into the dataset's folder."""
    storage.write_json(f"{url}/{PROFILE}", profile.model_dump(mode="json"))


def read_profile(url: str) -> DatasetProfile:
    """The profile of a dataset."""
    where = f"{url}/{PROFILE}"
    return parse_settings(storage.read_json(where), DatasetProfile, where)


def _in_all(split: str, days: dict[str, tuple[int, int]]) -> list[Rows]:
    num_rows = sum(num for num, _ in days.values())
    num_clicks = sum(clicks for _, clicks in days.values())
    return [Rows(day="", split=split, num_rows=num_rows, ctr=num_clicks / num_rows)] if num_rows else []


def _by_day(counts: RowCounts) -> list[Rows]:
    rows = [
        Rows(day=day, split=split, num_rows=num, ctr=clicks / num)
        for split, days in counts.by_day.items()
        for day, (num, clicks) in days.items()
        if day
    ]
    return sorted(rows, key=lambda of_day: of_day.day)
