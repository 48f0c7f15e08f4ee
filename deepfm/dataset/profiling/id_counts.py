"""Counts of rows and clicks by field and id in one pass over each split, summed to the rows of a profile."""

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
from deepfm.spark.index_frame import index_frame, scratch_rows
from deepfm.spark.scratch import MAX_COUNTS_ON_DRIVER, read_table, write_table

#: Known values shown of a field that may have millions.
NUM_TOP = 10
#: Ids are grouped by training CTR in steps of 1 / CTR_BINS, which bounds the rows per field on the driver.
CTR_BINS = 10_000

MISSING, UNKNOWN, KNOWN = range(3)
NOT_SHOWN = -1

#: Fields of kind value have no ids: values are counted in steps of 1/100 standard deviation.
_STEPS_PER_STD, _MAX_STDS = 100, 5
#: Buffered counts after which a task writes them out, to bound the memory of a worker.
_MAX_BUFFERED = 2_000_000
#: Below this key, counting in an array is faster than sorting.
_MAX_DENSE_KEY = 1 << 20

_ID = [(name, pa.int32()) for name in ("split", "field", "id")]
_COUNTS = pa.schema([*_ID, ("num", pa.int64()), ("num_clicks", pa.int64())])
#: The same for rows with weights: sums of weights.
_WEIGHTS = pa.schema([*_ID, ("num", pa.float64()), ("num_clicks", pa.float64())])
_KEYS = ("field", "state", "shown", "ctr_bin")
_SUMS = tuple(f"{name}_{part}" for part in SPLITS for name in ("num", "clicks"))


def id_counts(spark: SparkSession, dataset_url: str, manifest: Manifest, scratch_url: str) -> pd.DataFrame:
    """Return sums over ids: (field, state, shown, ctr_bin, num_ids, num_train, clicks_train, num_valid, …).

    `field` is an index; `state` is MISSING, UNKNOWN or KNOWN; `shown` is the id if the profile shows it
    separately, else NOT_SHOWN; `ctr_bin` is the bin of its CTR in the training rows (overall CTR for ids
    without training rows); `num_ids` is the number of ids with training rows. A row counts once for each
    value of a list. Counts are exchanged through tables in the folder `scratch_url`; Spark sums them if they
    would not fit on the driver. If the rows have weights, counts are sums of weights.
    """
    weighted = manifest.data.weight_column is not None
    tables = _count_files(spark, dataset_url, manifest, scratch_url)
    if sum(tables.values()) <= MAX_COUNTS_ON_DRIVER:
        counts = pa.concat_tables(
            [
                (_WEIGHTS if weighted else _COUNTS).empty_table(),
                *(read_table(scratch_url, name) for name in tables),
            ]
        )
        return _sum_bins(_sum_by_id(counts), manifest)
    count = "double" if weighted else "long"
    schema = f"split int, field int, id int, num {count}, num_clicks {count}"
    partial = scratch_rows(spark, scratch_url, list(tables), schema)
    by_id = partial.groupBy("field", "id").agg(*_sums_by_split())

    def bin_ids(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield _sum_bins(batch, manifest)

    columns = [f"{name} long" for name in (*_KEYS, "num_ids")] + [f"{name} {count}" for name in _SUMS]
    binned: pd.DataFrame = by_id.mapInPandas(bin_ids, ", ".join(columns)).toPandas()
    return binned.groupby(list(_KEYS), as_index=False).sum()


def _sum_by_id(counts: pa.Table) -> pd.DataFrame:
    """Sum partial counts -> (field, id, num_train, clicks_train, …), one row per id."""
    split, field, id_, num, clicks = (column.to_numpy() for column in counts.columns)
    ids, id_index = np.unique((field.astype(np.int64) << 32) + id_, return_inverse=True)
    summed = {"field": ids >> 32, "id": ids & (2**32 - 1)}
    for split_index, part in enumerate(SPLITS):
        for name, values in (("num", num), ("clicks", clicks)):
            totals = np.zeros(len(ids), values.dtype)
            np.add.at(totals, id_index[split == split_index], values[split == split_index])
            summed[f"{name}_{part}"] = totals
    return pd.DataFrame(summed)


def _sum_bins(by_id: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Sum over the ids that the profile does not distinguish."""
    train = manifest.splits["train"]
    field, id_ = by_id["field"].to_numpy(), by_id["id"].to_numpy()
    num, clicks = by_id["num_train"].to_numpy(), by_id["clicks_train"].to_numpy()
    first_known = np.array([field.first_known_id for field in manifest.fields])[field]
    num_shown = np.array([_num_shown(field) for field in manifest.fields])[field]
    # For a cross the state has no meaning, because its ids are hashes.
    state = np.where(id_ >= first_known, KNOWN, np.where(id_ == MISSING_ID, MISSING, UNKNOWN))
    is_shown = (id_ >= first_known) & (id_ - first_known < num_shown)
    ctr = np.where(num > 0, clicks / np.where(num > 0, num, 1), train.ctr)
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
    """Write tables of partial counts -> {table: length}; an id may occur several times in a table."""
    fields = manifest.fields
    weight = manifest.data.weight_column
    columns = [manifest.data.label_name, *fields.slots, *([] if weight is None else [weight])]
    files = [
        (split, f"{dataset_url}/{part}/{file.name}")
        for split, part in enumerate(SPLITS)
        for file in manifest.splits[part].files
    ]

    def count_files(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = _IdCounts(fields, weighted=weight is not None)
        for index in (index for batch in index_batches for index in batch.column(0).to_pylist()):
            split, file = files[index]
            # Tasks get file names and read the files: as Spark rows it would take ten times as long.
            rows = pq.read_table(io.BytesIO(storage.read_bytes(file)), columns=columns)
            labels, *slots = (rows.column(name).to_numpy() for name in columns)
            weights = None if weight is None else slots.pop().astype(np.float64)
            counts.add(split, labels, slots, weights)
            if counts.num_buffered > _MAX_BUFFERED:
                counts.compact()
                if counts.num_buffered > _MAX_BUFFERED / 2:
                    yield _write_counts(counts, scratch_url)
        yield _write_counts(counts, scratch_url)

    tasks = index_frame(spark, len(files)).mapInArrow(count_files, "name string, num long")
    return {row.name: row.num for row in tasks.collect()}


def _write_counts(counts: "_IdCounts", scratch_url: str) -> pa.RecordBatch:
    """Write the counts as a table into the scratch folder and clear them -> its name and length."""
    table = pa.Table.from_batches(counts.drain(), counts.schema)
    return pa.RecordBatch.from_pydict({"name": [write_table(scratch_url, table)], "num": [table.num_rows]})


class _IdCounts:
    """Counts of ids by field over several files; a key is 6 id + 2 split + label."""

    def __init__(self, fields: FieldSet, *, weighted: bool = False):
        self.schema = _WEIGHTS if weighted else _COUNTS
        self._slots = list(fields.slot_ranges.values())
        self._parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in fields]
        self.num_buffered = 0

    def add(
        self,
        split: int,
        labels: np.ndarray,
        columns: Sequence[np.ndarray],
        weights: np.ndarray | None = None,
    ) -> None:
        """Add (B,) labels, S columns (B,) of ids or float32 values, and (B,) weights if the rows have any."""
        for parts, slots in zip(self._parts, self._slots, strict=True):
            keys = [_keys(column, split, labels) for column in columns[slots]]
            slot_weights = None
            if weights is not None:
                slot_weights = np.concatenate([weights[_is_filled(column)] for column in columns[slots]])
            parts.append(_count_keys(np.concatenate(keys) if len(keys) > 1 else keys[0], slot_weights))
            self.num_buffered += len(parts[-1][0])

    def compact(self) -> None:
        """Merge equal keys of several files."""
        self._parts = [[_merge_counts(parts)] if parts else [] for parts in self._parts]
        self.num_buffered = sum(len(keys) for parts in self._parts for keys, _ in parts)

    def drain(self) -> Iterator[pa.RecordBatch]:
        """Yield all counts as rows of partial counts, and clear them."""
        self.compact()
        for field, parts in enumerate(self._parts):
            for keys, counts in parts:
                columns = {
                    "split": (keys % 6 // 2).astype(np.int32),
                    "field": np.full(len(keys), field, np.int32),
                    "id": (keys // 6).astype(np.int32),
                    "num": counts,
                    "num_clicks": counts * (keys % 2),
                }
                yield pa.RecordBatch.from_pydict(columns, self.schema)
        self._parts, self.num_buffered = [[] for _ in self._parts], 0


def _keys(column: np.ndarray, split: int, labels: np.ndarray) -> np.ndarray:
    """(B,) ids or values, (B,) labels -> keys, without those of empty slots."""
    ids = _value_steps(column) if column.dtype == np.float32 else column
    keys = 6 * ids.astype(np.int64) + (2 * split + labels)
    return keys[ids != PADDING]


def _is_filled(column: np.ndarray) -> np.ndarray:
    """(B,) ids or values -> (B,) bool: False for empty slots."""
    return np.ones(len(column), bool) if column.dtype == np.float32 else column != PADDING


def _value_steps(values: np.ndarray) -> np.ndarray:
    """(n,) float32 scaled values, NaN if missing -> (n,) int64 ids of steps."""
    limit = _MAX_STDS * _STEPS_PER_STD
    steps = np.clip(np.floor(np.nan_to_num(values) * _STEPS_PER_STD), -limit, limit)
    return np.where(np.isnan(values), MISSING_ID, FIRST_KNOWN_ID + limit + steps.astype(np.int64))


def _count_keys(keys: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int64 keys, (n,) weights (None: 1) -> distinct keys and their counts."""
    if keys.max(initial=0) < _MAX_DENSE_KEY:
        counts = np.bincount(keys, weights)
        distinct = np.flatnonzero(counts)
        return distinct, counts[distinct]
    if weights is not None:
        distinct, key_index = np.unique(keys, return_inverse=True)
        return distinct, np.bincount(key_index, weights)
    return np.unique(keys, return_counts=True)


def _merge_counts(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys, key_index = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    counts = np.concatenate([counts for _, counts in parts])
    totals = np.zeros(len(keys), counts.dtype)
    np.add.at(totals, key_index, counts)
    return keys, totals


def _sums_by_split() -> list[Column]:
    return [
        F.sum(F.when(F.col("split") == split, F.col(source)).otherwise(0)).alias(f"{name}_{part}")
        for split, part in enumerate(SPLITS)
        for source, name in (("num", "num"), ("num_clicks", "clicks"))
    ]


def _num_shown(field: Field) -> int:
    if field.behaviour.is_bucketed:  # few, ordered ids
        return 2**30
    # Ids of a vocabulary are ordered by frequency at the time the values became known, so in a grown dataset
    # the first ids are those of the base dataset. Hashes and values have no names to show.
    return NUM_TOP if field.is_counted else 0
