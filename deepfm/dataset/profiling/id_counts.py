"""One pass over each written split: rows and clicks by field and id, added up to what a profile shows."""

import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.click_log.split import SPLITS
from deepfm.dataset.manifest import Manifest
from deepfm.fields import FIRST_KNOWN_ID, MISSING_ID, PADDING, Field, FieldSet
from deepfm.kinds import KINDS
from deepfm.spark.index_frame import index_frame, scratch_rows
from deepfm.spark.scratch import MAX_COUNTS_ON_DRIVER, read_table, write_table

#: Known values that are shown of a field that may have very many.
NUM_TOP = 10
#: Kinds of field whose known values are few and have an order: all are shown.
BUCKETED = tuple(name for name, kind in KINDS.items() if kind.is_bucketed)
#: Ids are told apart by their training CTR in steps of 1 / CTR_BINS: so many rows a field reach the driver.
CTR_BINS = 10_000

MISSING, UNKNOWN, KNOWN = range(3)
NOT_SHOWN = -1

#: A field that enters by value has no ids: it is counted by steps of a hundredth of a standard deviation.
_STEPS_PER_STD, _MAX_STDS = 100, 5
#: Ids counted before a task hands its counts to Spark, which bounds the memory of a worker.
_MAX_HELD = 2_000_000
#: Up to so many keys an array with a place for each is quicker than sorting.
_MAX_PLACES = 1 << 20

_COUNTS = pa.schema(
    [
        ("split", pa.int32()),
        ("field", pa.int32()),
        ("id", pa.int32()),
        ("num", pa.int64()),
        ("num_clicks", pa.int64()),
    ]
)
_COUNTS_IN_SPARK = "split int, field int, id int, num long, num_clicks long"
_KEYS = ("field", "state", "shown", "ctr_bin")
_SUMS = tuple(f"{what}_{part}" for part in SPLITS for what in ("num", "clicks"))


def id_counts(spark: SparkSession, dataset_url: str, manifest: Manifest, scratch_url: str) -> pd.DataFrame:
    """(field, state, shown, ctr_bin, num_ids, num_train, clicks_train, num_valid, …): sums over ids.

    `field` is an index, `state` MISSING, UNKNOWN or KNOWN, `shown` the id where the profile shows it by
    itself (else NOT_SHOWN), `ctr_bin` its CTR on the training rows (of ids that are not there: that of all),
    and `num_ids` how many ids have training rows. A row counts once for each value of a list. Counts go
    through tables in the folder `scratch_url`; Spark adds them up where the driver could not hold them.
    """
    tables = _count_files(spark, dataset_url, manifest, scratch_url)
    if sum(tables.values()) <= MAX_COUNTS_ON_DRIVER:
        counts = pa.concat_tables(
            [_COUNTS.empty_table(), *(read_table(scratch_url, name) for name in tables)]
        )
        return _binned(_by_id(counts), manifest)
    partial = scratch_rows(spark, scratch_url, list(tables), _COUNTS_IN_SPARK)
    by_id = partial.groupBy("field", "id").agg(*_sums_by_split())

    def bin_ids(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield _binned(batch, manifest)

    sums = ", ".join(f"{name} long" for name in (*_KEYS, "num_ids", *_SUMS))
    binned = by_id.mapInPandas(bin_ids, sums).toPandas()
    return binned.groupby(list(_KEYS), as_index=False).sum()


def _by_id(counts: pa.Table) -> pd.DataFrame:
    """Partial counts -> (field, id, num_train, clicks_train, …), a row an id."""
    split, field, id_, num, clicks = (column.to_numpy() for column in counts.columns)
    ids, places = np.unique((field.astype(np.int64) << 32) + id_, return_inverse=True)
    summed = {"field": ids >> 32, "id": ids & (2**32 - 1)}
    for at, part in enumerate(SPLITS):
        for name, values in (("num", num), ("clicks", clicks)):
            of_part = np.zeros(len(ids), np.int64)
            np.add.at(of_part, places[split == at], values[split == at])
            summed[f"{name}_{part}"] = of_part
    return pd.DataFrame(summed)


def _binned(by_id: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Sums over the ids that the profile shows together."""
    train = manifest.splits["train"]
    field, id_ = by_id["field"].to_numpy(), by_id["id"].to_numpy()
    num, clicks = by_id["num_train"].to_numpy(), by_id["clicks_train"].to_numpy()
    first_known = np.array([field.first_known_id for field in manifest.fields])[field]
    num_shown = np.array([_num_shown(field) for field in manifest.fields])[field]
    # Of a cross a state says nothing: its ids are hashes.
    state = np.where(id_ >= first_known, KNOWN, np.where(id_ == MISSING_ID, MISSING, UNKNOWN))
    is_shown = (id_ >= first_known) & (id_ - first_known < num_shown)
    ctr = np.where(num > 0, clicks / np.maximum(num, 1), train.num_clicks / train.num_rows)
    binned = by_id.drop(columns="id").assign(
        state=state,
        shown=np.where(is_shown, id_, NOT_SHOWN),
        ctr_bin=np.floor(ctr * CTR_BINS).astype(np.int64),
        num_ids=(num > 0).astype(np.int64),
    )
    return binned.groupby(list(_KEYS), as_index=False)[["num_ids", *_SUMS]].sum()


def _count_files(
    spark: SparkSession, dataset_url: str, manifest: Manifest, scratch_url: str
) -> dict[str, int]:
    """Tables of partial counts, an id once or more often a table, and how long they are."""
    fields = manifest.fields
    columns = [manifest.data.label, *fields.slots]
    files = [
        (split, f"{dataset_url}/{part}/{file.name}")
        for split, part in enumerate(SPLITS)
        for file in manifest.splits[part].files
    ]

    def count_files(places: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = _IdCounts(fields)
        for place in (place for batch in places for place in batch.column(0).to_pylist()):
            split, file = files[place]
            # Not through Spark's rows, which would take ten times as long: tasks are handed names of files.
            rows = pq.read_table(io.BytesIO(storage.read_bytes(file)), columns=columns)
            labels, *slots = (rows.column(name).to_numpy() for name in columns)
            counts.add(split, labels, slots)
            if counts.num_held > _MAX_HELD:
                counts.compact()
                if counts.num_held > _MAX_HELD / 2:
                    yield _kept(counts, scratch_url)
        yield _kept(counts, scratch_url)

    tasks = index_frame(spark, len(files)).mapInArrow(count_files, "name string, num long")
    return {row.name: row.num for row in tasks.collect()}


def _kept(counts: "_IdCounts", scratch_url: str) -> pa.RecordBatch:
    """Counts, which are then forgotten, as a table in the scratch folder -> its name and length."""
    table = pa.Table.from_batches(counts.drain(), _COUNTS)
    return pa.RecordBatch.from_pydict({"name": [write_table(scratch_url, table)], "num": [table.num_rows]})


class _IdCounts:
    """Counts ids field by field, file by file; a key is 6 id + 2 split + label."""

    def __init__(self, fields: FieldSet):
        self._slots = list(fields.slot_ranges.values())
        self._parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in fields]
        self.num_held = 0

    def add(self, split: int, labels: np.ndarray, columns: Sequence[np.ndarray]) -> None:
        """(B,) labels and S columns (B,) of ids or float32 values."""
        for parts, slots in zip(self._parts, self._slots, strict=True):
            keys = [_keys(column, split, labels) for column in columns[slots]]
            parts.append(_counted(np.concatenate(keys) if len(keys) > 1 else keys[0]))
            self.num_held += len(parts[-1][0])

    def compact(self) -> None:
        """Bring equal keys of several files together."""
        self._parts = [[_summed(parts)] if parts else [] for parts in self._parts]
        self.num_held = sum(len(keys) for parts in self._parts for keys, _ in parts)

    def drain(self) -> Iterator[pa.RecordBatch]:
        """All that was counted, which is then forgotten, as rows of partial counts."""
        self.compact()
        for field, parts in enumerate(self._parts):
            for keys, nums in parts:
                columns = {
                    "split": (keys % 6 // 2).astype(np.int32),
                    "field": np.full(len(keys), field, np.int32),
                    "id": (keys // 6).astype(np.int32),
                    "num": nums,
                    "num_clicks": nums * (keys % 2),
                }
                yield pa.RecordBatch.from_pydict(columns, _COUNTS)
        self._parts, self.num_held = [[] for _ in self._parts], 0


def _keys(column: np.ndarray, split: int, labels: np.ndarray) -> np.ndarray:
    """(B,) ids or values, (B,) labels -> a key of each that is there."""
    ids = _ids_of_values(column) if column.dtype == np.float32 else column
    keys = 6 * ids.astype(np.int64) + (2 * split + labels)
    return keys[ids != PADDING]


def _ids_of_values(values: np.ndarray) -> np.ndarray:
    """(n,) float32 scaled values, nan where missing -> (n,) int64."""
    limit = _MAX_STDS * _STEPS_PER_STD
    steps = np.clip(np.floor(np.nan_to_num(values) * _STEPS_PER_STD), -limit, limit)
    return np.where(np.isnan(values), MISSING_ID, FIRST_KNOWN_ID + limit + steps.astype(np.int64))


def _counted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int64 -> the distinct keys and how often each occurs."""
    if keys.max(initial=0) < _MAX_PLACES:
        nums = np.bincount(keys)
        distinct = np.flatnonzero(nums)
        return distinct, nums[distinct]
    return np.unique(keys, return_counts=True)


def _summed(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys, places = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    nums = np.zeros(len(keys), np.int64)
    np.add.at(nums, places, np.concatenate([nums for _, nums in parts]))
    return keys, nums


def _sums_by_split() -> list[Column]:
    return [
        F.sum(F.when(F.col("split") == at, F.col(source)).otherwise(0)).alias(f"{name}_{part}")
        for at, part in enumerate(SPLITS)
        for source, name in (("num", "num"), ("num_clicks", "clicks"))
    ]


def _num_shown(field: Field) -> int:
    if field.kind in BUCKETED:
        return 2**30
    # Ids of a vocabulary are in the order of how often values occurred when they became known, so where a
    # dataset has grown its first are old favourites; of a hash or a value nobody knows names.
    return NUM_TOP if field.is_counted else 0
