"""A click log -> a finished dataset: survey, vocabulary, encoded splits, profile and, last, the manifest."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.rejected_rows import REJECTED
from deepfm.click_log.split import SPLITS, DaySplit, Split
from deepfm.dataset.base_dataset import base_vocabulary
from deepfm.dataset.manifest import MANIFEST, InputLog, Manifest, write_manifest
from deepfm.dataset.petastorm_metadata import write_petastorm_metadata
from deepfm.dataset.profiling.dataset_profile import (
    LogFindings,
    profile_dataset,
    rejected_examples,
    write_profile,
)
from deepfm.dataset.profiling.profile_page import write_page
from deepfm.dataset.reuse import described_log, reusable_manifest
from deepfm.dataset.split_checks import require_sample, warn_of_shares
from deepfm.dataset.write import write_rejected, write_splits
from deepfm.errors import UserError
from deepfm.features.statistics import RowCounts, collect_statistics, rejected_rows
from deepfm.features.vocabulary.chunked import AnyVocabulary
from deepfm.features.vocabulary.fit import fit_vocabulary
from deepfm.features.vocabulary.rare_values import write_rare
from deepfm.features.vocabulary.stored import StoredVocabulary
from deepfm.settings.data import DataSettings

#: Marks a folder as a dataset that is being built: only such a one, or an empty one, is ever cleared.
BUILDING = "_building"

#: Of what workers and driver hand to each other; see features.scratch.
SCRATCH = "_scratch"


@dataclass(frozen=True)
class _Build:
    """What is built of what, and where."""

    spark: SparkSession
    log: ClickLog
    settings: DataSettings
    split: Split
    days: list[str] | None  # of the log's day folders; None: it has none
    url: str
    previous: StoredVocabulary | None  # that it grows from
    described: dict[str, Any]  # see described_log


def build_dataset(
    spark: SparkSession,
    log: ClickLog,
    settings: DataSettings,
    split: Split,
    url: str,
    grow_url: str | None = None,
) -> Manifest:
    """Build the dataset at `url`, which must not exist (what an interrupted build left there is replaced).

    One that is there already, finished, of the same log, settings and split, is left as it is. With
    `grow_url`, a dataset of the same fields, its values keep their ids and new ones follow.

    UserError where days are missing or empty, or more rows than `max_bad_fraction` do not fit; the rows
    that do not fit are then left in `url`/_rejected, without a manifest.
    """
    days = _days_to_read(log, split)
    previous = base_vocabulary(grow_url, settings.field_set) if grow_url else None
    described = described_log(
        log, split, days
    )  # now: a dataset within the log's folder would be a part of it
    build = _Build(spark, log, settings, split, days, url, previous, described)
    if storage.exists(f"{url}/{MANIFEST}"):
        return reusable_manifest(url, described, settings, previous)
    _claim(url)
    try:
        manifest = _everything_but_the_manifest(build)
    except BaseException as error:
        _abandon(url)
        # From a worker it comes as text, with the stack traces of Python and Java around it.
        if os.strerror(errno.ENOSPC) in str(error):
            raise UserError(
                f"{url}: no space is left there; nothing was published: free some or choose another --output"
            ) from error
        raise
    write_manifest(url, manifest)
    storage.remove(f"{url}/{BUILDING}")
    return manifest


def _everything_but_the_manifest(build: _Build) -> Manifest:
    spark, url = build.spark, build.url
    vocabulary, found, blocks = _learn(build)
    vocabulary.save(url)
    manifest = Manifest(
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        data=build.settings,
        num_ids=vocabulary.num_ids,
        vocabulary=vocabulary.fingerprint,
        grown_from=build.previous and build.previous.fingerprint,
        splits=_write_splits(spark, vocabulary, found, blocks, build.settings.label, url),
        input=InputLog(
            **build.described,
            rows_read=found.counts.num_read,
            rows_sampled_out=found.counts.num_rows("sampled_out"),
            bad_by_reason=found.counts.bad_by_reason,
        ),
    )
    profile = profile_dataset(spark, url, manifest, vocabulary, found)
    write_profile(url, profile)
    write_page(url, profile)
    return manifest


def _learn(build: _Build) -> tuple[AnyVocabulary, LogFindings, list[str]]:
    """Survey the log and set aside what does not fit; what is learnt, what was seen, and the parsed rows."""
    spark, log, settings, url = build.spark, build.log, build.settings, build.url
    scratch_url, rejected_url = f"{url}/{SCRATCH}", f"{url}/{REJECTED}"
    storage.make_folder(scratch_url)
    raw = raw_rows(spark, log, build.days)
    found = collect_statistics(raw, log.row_format, build.split, scratch_url, settings.keep_negatives)
    examples = {}
    if found.counts.num_bad:
        rejected = rejected_rows(spark, found)
        write_rejected(rejected, rejected_url)
        examples = rejected_examples(rejected)
    _check_share(found.counts, log, settings, rejected_url, lambda: _worst_file(rejected))
    _check_counts(found.counts, log, build.days)
    warn_of_shares(found.counts, log.url, build.split)
    require_sample(found.counts, log.url, settings.keep_negatives)
    learnt = fit_vocabulary(spark, found, settings.field_set, build.previous)
    write_rare(url, learnt.rare)
    seen = LogFindings(found.counts, learnt.num_values, examples, found.num_truncated)
    return learnt.vocabulary, seen, list(found.blocks)


def _days_to_read(log: ClickLog, split: Split) -> list[str] | None:
    if log.day_folders is None or not isinstance(split, DaySplit):
        return None
    return split.days()


def _claim(url: str) -> None:
    """Make an empty folder at `url` that is marked as being built."""
    if "#" in url or "?" in url:
        # To Petastorm they end a path.
        raise UserError(f"{url}: expected a path without # and ?, found one; choose another --output")
    if storage.exists(f"{url}/{BUILDING}"):
        storage.remove(url)
    elif storage.exists(url) and not storage.is_empty_folder(url):
        raise UserError(
            f"{url}: expected no folder or an empty one, found other files; choose another --output"
        )
    storage.make_folder(url)
    storage.write_bytes(f"{url}/{BUILDING}", b"")


def _abandon(url: str) -> None:
    """Leave nothing of a build that failed but the rows it set aside.

    Where a worker still writes, what is left is marked, and the next build clears it.
    """
    with suppress(OSError):
        for name in [SCRATCH, *(child["name"] for child in storage.children(url))]:
            storage.remove(f"{url}/{name}")
        if not storage.exists(f"{url}/{REJECTED}"):
            storage.remove(url)


def _worst_file(rejected: DataFrame) -> str:
    """Where most of the rows that do not fit lie: one day's files may have other columns than the rest."""
    by_file = rejected.groupBy("source_file").count().orderBy(F.desc("count"), "source_file").first()
    return f"{by_file['count']} of them in {by_file['source_file']}"


def _check_share(
    counts: RowCounts, log: ClickLog, settings: DataSettings, rejected_url: str, worst: Callable[[], str]
) -> None:
    if counts.num_bad > settings.max_bad_fraction * counts.num_read:
        reasons = ", ".join(f"{num} {reason}" for reason, num in counts.bad_by_reason.items())
        by_width = counts.bad_by_reason.get("wrong_number_of_columns", 0) > counts.num_bad / 2
        remedy = (
            "check delimiter and columns in the data YAML" if by_width else "mend the log or the data YAML"
        )
        raise UserError(
            f"{log.url}: {counts.num_bad} of {counts.num_read} rows do not fit ({reasons}; {worst()}), more "
            f"than max_bad_fraction {settings.max_bad_fraction}; see {rejected_url}, then {remedy}"
        )


def _check_counts(counts: RowCounts, log: ClickLog, days: list[str] | None) -> None:
    for split in SPLITS:
        if not counts.num_rows(split):
            raise UserError(
                f"{log.url}: no row that fits is in the {split} part; choose other days or shares"
            )
    if days is not None:
        seen = {day for by_day in counts.by_day.values() for day in by_day}
        empty = [day for day in days if day not in seen]
        if empty:
            raise UserError(
                f"{log.url}/ds={empty[0]}: expected impressions, found no row that fits; leave that day out"
            )


def _write_splits(
    spark: SparkSession,
    vocabulary: AnyVocabulary,
    found: LogFindings,
    blocks: list[str],
    label: str,
    url: str,
) -> dict:
    days = {part: {day: num for day, (num, _) in found.counts.by_day[part].items()} for part in SPLITS}
    shared = spark.sparkContext.broadcast(vocabulary)
    described = write_splits(spark, f"{url}/{SCRATCH}", blocks, shared, label, url, days)
    shared.destroy()
    for part in SPLITS:
        write_petastorm_metadata(spark, f"{url}/{part}", described[part], vocabulary.fields, label)
        # What the survey counted and what was written were computed apart: they must agree to the row.
        if described[part].num_rows != found.counts.num_rows(part):
            raise RuntimeError(
                f"{url}/{part}: the survey found {found.counts.num_rows(part)} rows but "
                f"{described[part].num_rows} were written; this is a fault of the program"
            )
    storage.remove(f"{url}/{SCRATCH}")
    return described
