"""Build a dataset from a click log: statistics, vocabulary, encoded splits, profile, manifest."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.rejected_rows import REJECTED
from deepfm.click_log.split import SPLITS, DaySplit, Split
from deepfm.dataset.base_dataset import base_vocabulary
from deepfm.dataset.manifest import MANIFEST, InputLog, Manifest, SplitPart, write_manifest
from deepfm.dataset.petastorm_metadata import write_petastorm_metadata
from deepfm.dataset.profiling.dataset_profile import (
    LogSummary,
    profile_dataset,
    rejected_examples,
    write_dataset_profile,
)
from deepfm.dataset.profiling.log_warnings import log_warnings
from deepfm.dataset.profiling.profile_page import write_page
from deepfm.dataset.rejected_checks import check_rejected
from deepfm.dataset.reuse import describe_log, reuse_dataset
from deepfm.dataset.split_checks import require_sample, warn_of_uneven_splits
from deepfm.dataset.write import write_rejected, write_splits
from deepfm.environment_faults import explain_faults
from deepfm.errors import UserError
from deepfm.features.statistics import LogStatistics, RowCounts, collect_statistics, rejected_rows
from deepfm.features.vocabulary.chunked import AnyVocabulary
from deepfm.features.vocabulary.fit import fit_vocabulary
from deepfm.features.vocabulary.rare_values import write_rare
from deepfm.features.vocabulary.stored import StoredVocabulary
from deepfm.ownership import Ownership, exclusive_ownership, is_owner_file
from deepfm.settings.data import DataSettings

logger = logging.getLogger(__name__)

#: Marks a folder as an unfinished dataset: only such a folder, or an empty one, is ever cleared.
BUILDING = "_building"

#: Label of the file that shows which process builds a dataset.
OWNER = "dataset"

#: Folder for files that workers and driver exchange, see spark.scratch.
SCRATCH = "_scratch"


@dataclass(frozen=True)
class _Build:
    """Inputs of a build and its output folder."""

    spark: SparkSession
    log: ClickLog
    settings: DataSettings
    split: Split
    days: list[str] | None  # day folders to read; None: the log has none
    url: str
    base: StoredVocabulary | None  # vocabulary to grow from
    log_description: dict[str, Any]  # see describe_log


def build_dataset(
    spark: SparkSession,
    log: ClickLog,
    settings: DataSettings,
    split: Split,
    url: str,
    grow_url: str | None = None,
) -> Manifest:
    """Build the dataset at `url`, a new or empty folder (remains of an interrupted build are replaced).

    If `url` is already a complete dataset of the same log, settings and split, return its manifest. With
    `grow_url`, a dataset with the same fields, its values keep their ids and new values get the next ones.

    Raise UserError if days are missing or empty, or if more rows than `max_bad_fraction` are rejected; the
    rejected rows are then in `url`/_rejected, without a manifest.
    """
    days = _days_to_read(log, split)
    base = base_vocabulary(grow_url, settings.field_set) if grow_url else None
    # Before the output folder exists: if it is inside the log's folder, it would be a part of the log.
    log_description = describe_log(log, split, days)
    if storage.exists(f"{url}/{MANIFEST}"):
        return reuse_dataset(url, log_description, settings, base)
    _require_valid_url(url)
    try:
        with exclusive_ownership(url, OWNER, url, "choose another --output") as ownership:
            if storage.exists(f"{url}/{MANIFEST}"):  # another process has built it since
                return reuse_dataset(url, log_description, settings, base)
            _prepare_folder(url)
            build = _Build(spark, log, settings, split, days, url, base, log_description)
            return _build_and_publish(build, ownership)
    finally:
        storage.remove_empty_folder(url)


def _build_and_publish(build: _Build, ownership: Ownership) -> Manifest:
    url = build.url
    # Faults are explained before the clean-up, which may free the space of a full disk.
    with _clean_up_on_error(url, ownership), explain_faults(f"{url}: nothing was published", url):
        manifest = _build_files(build)
        ownership.require()
    write_manifest(url, manifest)
    storage.remove(f"{url}/{BUILDING}")
    return manifest


def _build_files(build: _Build) -> Manifest:
    """Write everything except the manifest, and return the manifest."""
    spark, url = build.spark, build.url
    stats, examples = _collect_statistics(build)
    counts = stats.counts
    fitted = fit_vocabulary(spark, stats, build.settings.field_set, build.base)
    write_rare(url, fitted.rare)
    fitted.vocabulary.save(url)
    manifest = Manifest(
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        data=build.settings,
        num_ids=fitted.vocabulary.num_ids,
        vocabulary=fitted.vocabulary.fingerprint,
        grown_from=build.base.fingerprint if build.base else None,
        splits=_write_splits(spark, fitted.vocabulary, stats, build.settings, url),
        input=InputLog(
            **build.log_description,
            rows_read=counts.num_read,
            rows_sampled_out=counts.num_rows("sampled_out"),
            bad_by_reason=counts.bad_by_reason,
        ),
    )
    names = build.settings.field_set.names
    num_unparsed = {names[index]: num for index, num in sorted(stats.num_unparsed.items())}
    warnings = log_warnings(counts, build.settings, build.split, num_unparsed)
    summary = LogSummary(counts, fitted.num_values, examples, stats.num_truncated, tuple(warnings))
    profile = profile_dataset(spark, url, manifest, fitted.vocabulary, summary)
    write_dataset_profile(url, profile)
    write_page(url, profile)
    return manifest


def _collect_statistics(build: _Build) -> tuple[LogStatistics, dict[str, list[str]]]:
    """Read the log, write its rejected rows and check the counts; (statistics, examples of rejected rows)."""
    spark, log, settings, url = build.spark, build.log, build.settings, build.url
    scratch_url, rejected_url = f"{url}/{SCRATCH}", f"{url}/{REJECTED}"
    storage.make_folder(scratch_url)
    raw = raw_rows(spark, log, build.days)
    stats = collect_statistics(raw, log.row_format, build.split, scratch_url, settings.keep_negatives)
    examples = {}
    if stats.counts.num_bad:
        rejected = rejected_rows(spark, stats)
        write_rejected(rejected, rejected_url)
        examples = rejected_examples(rejected)
        check_rejected(log, settings, stats.counts, rejected, rejected_url)
    _check_counts(stats.counts, log, build.days)
    warn_of_uneven_splits(stats.counts, log.url, build.split)
    require_sample(stats.counts, log.url, settings.keep_negatives)
    return stats, examples


def _days_to_read(log: ClickLog, split: Split) -> list[str] | None:
    if log.day_paths is None or not isinstance(split, DaySplit):
        return None
    return split.days()


def _require_valid_url(url: str) -> None:
    if "#" in url or "?" in url:
        # Petastorm ends a path at these characters.
        raise UserError(f"{url}: the path must not contain # or ?; choose another --output")
    if not storage.exists(f"{url}/{BUILDING}") and _content(url):
        raise UserError(f"{url}: expected a new or empty folder, found other files; choose another --output")


def _prepare_folder(url: str) -> None:
    """Empty the folder, which this process owns, and mark it as an unfinished dataset."""
    for name in _content(url):
        storage.remove(f"{url}/{name}")
    storage.write_bytes(f"{url}/{BUILDING}", b"")


def _content(url: str) -> list[str]:
    """Names in a folder, without the files of owners; a file counts as content too."""
    if storage.exists(url) and not storage.is_folder(url):
        return [url]
    return [name for name in storage.all_names(url) if not is_owner_file(name)]


@contextmanager
def _clean_up_on_error(url: str, ownership: Ownership) -> Iterator[None]:
    """Remove everything of a failed build except its rejected rows.

    If a worker is still writing, the files it leaves are marked as unfinished, and the next build removes
    them.
    """
    try:
        yield
    except BaseException:
        if not _is_lost(ownership):  # otherwise these are the files of another process
            _clean_up(url)
        raise


def _is_lost(ownership: Ownership) -> bool:
    with suppress(Exception):  # of a failing filesystem, which must not replace the error that is reported
        return ownership.is_lost()
    return True


def _clean_up(url: str) -> None:
    with suppress(*storage.FAILURES):
        names = _content(url)
        # The mark goes last, and stays if rejected rows do: the next build replaces them.
        kept = {REJECTED, BUILDING} if REJECTED in names else {BUILDING}
        for name in names:
            if name not in kept:
                storage.remove(f"{url}/{name}")
        if REJECTED not in names:
            storage.remove(f"{url}/{BUILDING}")


def _check_counts(counts: RowCounts, log: ClickLog, days: list[str] | None) -> None:
    for split in SPLITS:
        if not counts.num_rows(split):
            raise UserError(
                f"{log.url}: found no row that fits in the {split} split; choose other days or shares"
            )
        if not any(weight for weight, _ in counts.totals(split).values()):
            raise UserError(
                f"{log.url}: expected weights above 0 in the {split} split, found a sum of 0; check "
                "weight in the data YAML"
            )
    if days is not None:
        days_with_rows = {day for by_day in counts.by_day.values() for day in by_day}
        empty = [day for day in days if day not in days_with_rows]
        if empty:
            text = f"{log.url}: expected impressions of {empty[0]}, found no row that fits"
            if not log.allow_missing_days:
                raise UserError(f"{text}; leave that day out, or build without it by --allow-missing-days")
            logger.warning("%s", text)


def _write_splits(
    spark: SparkSession, vocabulary: AnyVocabulary, stats: LogStatistics, settings: DataSettings, url: str
) -> dict[str, SplitPart]:
    label, weight = settings.label_name, settings.weight_column
    shared = spark.sparkContext.broadcast(vocabulary)
    parts = write_splits(spark, url, label, stats, shared, weight)
    shared.destroy()
    for name, part in parts.items():
        write_petastorm_metadata(f"{url}/{name}", part, vocabulary.fields, label=label, weight=weight)
        # Counted rows and written rows are computed independently, so they must be equal.
        if part.num_rows != stats.counts.num_rows(name):
            raise RuntimeError(
                f"{url}/{name}: {stats.counts.num_rows(name)} rows were counted but {part.num_rows} were "
                "written; this is a bug"
            )
    storage.remove(f"{url}/{SCRATCH}")
    return parts
