"""Blocks of parsed rows -> Petastorm splits: encoded, shuffled, in files of equal size, a row group each.

    block ── encode ──> rows, sorted by file ── all slices of a file ──> sort by hash ──> Parquet

Rows go from task to task as slices of arrays in the scratch folder: Spark's own rows, shuffle and Parquet
writer cost several times as much as all the rest. What Petastorm itself needs is written by the driver (see
petastorm_metadata): its packages would be loaded by every worker.
"""

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

from deepfm import storage
from deepfm.click_log.split import SPLITS
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import DataFile, SplitPart
from deepfm.features.encode import Encoder
from deepfm.features.parsed_blocks import HASH, LABEL, PART
from deepfm.features.vocabulary.chunked import ChunkedVocabulary
from deepfm.fields import Field, FieldSet
from deepfm.kinds.cross import splitmix64
from deepfm.spark.index_frame import index_frame
from deepfm.spark.scratch import read_table

#: Rows of a file, which is one row group: what a worker reads in one piece, 10 MiB of 39 ids in memory.
ROWS_PER_FILE = 65_536
#: Few rows still come in several files, so that several workers read at once.
MIN_FILES = 8
#: Where there are many, a task takes so many blocks, or bytes of files, one after the other: to start one
#: costs Spark and Python as much as the work on a block.
_BLOCKS_PER_TASK = 8
_BYTES_PER_TASK = 88 << 20
#: A task that looks its values up in the pieces of a large vocabulary reads all of these once.
_BLOCKS_PER_LOOKUP = 16

_SLICES = "file long, name string, start long, stop long"
_WRITTEN = "file long, num_bytes long, num_rows long, num_clicks long, digest long"


@dataclass(frozen=True)
class _Layout:
    """Which files a dataset has: those of the training part first, then validation, then test."""

    url: str
    num_files: tuple[int, ...]  # by part
    label: str
    fields: FieldSet

    @property
    def first_files(self) -> np.ndarray:
        """(parts,) the number of each part's first file."""
        return np.cumsum([0, *self.num_files[:-1]])

    def name_of(self, file: int) -> tuple[str, str]:
        """The part and the name of a file by its number."""
        part = int(np.searchsorted(self.first_files, file, side="right")) - 1
        return SPLITS[part], f"part-{file - self.first_files[part]:05d}.parquet"


def write_splits(
    spark: SparkSession,
    scratch_url: str,
    blocks: list[str],
    vocabulary: Broadcast,
    label: str,
    url: str,
    days: Mapping[str, Mapping[str, int]],
) -> dict[str, SplitPart]:
    """Write every part below `url`; its rows lie in the order of their hash, which is random.

    `days`: by part, rows a day, by which the number of files is chosen.
    """
    nums_rows = [sum(days[part].values()) for part in SPLITS]
    num_files = tuple(max(MIN_FILES, -(-num // ROWS_PER_FILE)) for num in nums_rows)
    fields = vocabulary.value.fields
    layout = _Layout(url, num_files, label, fields)
    for part in SPLITS:
        storage.make_folder(f"{url}/{part}")
    slices = _encode_blocks(spark, scratch_url, blocks, vocabulary, layout)
    written = _write_files(spark, scratch_url, slices, layout)
    parts = {}
    for part in SPLITS:
        of_part = written[[layout.name_of(file)[0] == part for file in written["file"]]]
        parts[part] = _described(layout, of_part, days[part])
    return parts


@dataclass(frozen=True)
class _Slice:
    """Rows of one block for one file: bytes of an (n, 3 + S) int32 array of label, row hash and slots."""

    name: str  # in the scratch folder
    start: int
    stop: int


def _encode_blocks(
    spark: SparkSession, scratch_url: str, blocks: list[str], vocabulary: Broadcast, layout: _Layout
) -> dict[int, list[_Slice]]:
    """Encode every block into an array in the scratch folder, sorted by file -> the slices of each file."""

    def encode_blocks(places: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        names = [blocks[place] for batch in places for place in batch.column(0).to_pylist()]
        known = vocabulary.value
        if isinstance(known, ChunkedVocabulary):
            known = known.subset(read_table(scratch_url, name) for name in names)
        encoder = Encoder(known)
        for block in (read_table(scratch_url, name) for name in names):
            parts, hashes = (block.column(name).to_numpy() for name in (PART, HASH))
            labels = block.column(LABEL).to_numpy().astype(np.int32)
            slots = to_int32_matrix(encoder.encode(block))
            rows = np.column_stack([labels, hashes.view(np.int32).reshape(-1, 2), slots])
            files = _files_of(hashes, parts, layout)
            order = np.argsort(files, kind="stable")
            numbers, starts = np.unique(files[order], return_index=True)
            name = f"{uuid.uuid4().hex}.rows"
            storage.write_bytes(f"{scratch_url}/{name}", rows[order].tobytes())
            ends = np.append(starts, len(rows)) * rows.itemsize * rows.shape[1]
            names = pa.array([name] * len(numbers))
            columns = [pa.array(numbers), names, pa.array(ends[:-1]), pa.array(ends[1:])]
            yield pa.RecordBatch.from_arrays(columns, names=["file", "name", "start", "stop"])

    is_large = isinstance(vocabulary.value, ChunkedVocabulary)
    per_task = _BLOCKS_PER_LOOKUP if is_large else _BLOCKS_PER_TASK
    tasks = index_frame(spark, len(blocks), len(blocks) // per_task)
    slices: dict[int, list[_Slice]] = {}
    for row in tasks.mapInArrow(encode_blocks, _SLICES).collect():
        slices.setdefault(row.file, []).append(_Slice(row.name, row.start, row.stop))
    return slices


def _files_of(hashes: np.ndarray, parts: np.ndarray, layout: _Layout) -> np.ndarray:
    """(n,) the number of each row's file: an even random share of its part, whatever the blocks were."""
    # By the hash of a hash: where a log is split by hash, a part's hashes are alike in their high bits.
    mixed = splitmix64(hashes.view(np.uint64)) % np.array(layout.num_files, np.uint64)[parts]
    return layout.first_files[parts] + mixed.astype(np.int64)


def _write_files(
    spark: SparkSession, scratch_url: str, slices: dict[int, list[_Slice]], layout: _Layout
) -> pd.DataFrame:
    """Write every file from its slices -> a row each (see _WRITTEN), by number."""
    shared = spark.sparkContext.broadcast(sorted(slices.items()))

    def write_files(places: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for place in (place for batch in places for place in batch.column(0).to_pylist()):
            file, of_file = shared.value[place]
            content = b"".join(
                storage.read_range(f"{scratch_url}/{part.name}", part.start, part.stop) for part in of_file
            )
            rows = np.frombuffer(content, np.int32).reshape(-1, 3 + len(layout.fields.slots))
            yield pa.RecordBatch.from_pylist([_write_file(layout, file, rows)])

    num_bytes = sum(part.stop - part.start for of_file in slices.values() for part in of_file)
    tasks = index_frame(spark, len(slices), num_bytes // _BYTES_PER_TASK)
    written = tasks.mapInArrow(write_files, _WRITTEN).toPandas().sort_values("file")
    shared.destroy()
    return written


def _write_file(layout: _Layout, file: int, rows: np.ndarray) -> dict[str, int]:
    """Write (n, 3 + S) rows in the order of their hash."""
    hashes = np.ascontiguousarray(rows[:, 1:3]).view(np.int64)[:, 0]
    rows = rows[np.argsort(hashes, kind="stable")]
    labels, slots = rows[:, 0], np.ascontiguousarray(rows[:, 3:].T)
    columns = {layout.label: pa.array(labels, pa.int8())}
    for field in layout.fields:
        kind = _column_type(field)
        of_field = slots[layout.fields.slot_ranges[field.name]]
        columns |= {name: pa.array(ids.view(kind)) for name, ids in zip(field.slots, of_field, strict=True)}
    table = pa.table(columns, schema=_arrow_schema(layout.fields, layout.label))
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=len(rows))
    part, name = layout.name_of(file)
    # A task that is tried again writes the same bytes under the same name.
    storage.write_bytes(f"{layout.url}/{part}/{name}", content.getvalue())
    return {
        "file": file,
        "num_bytes": content.tell(),
        "num_rows": len(rows),
        "num_clicks": int(labels.sum()),
        "digest": int(_digest(labels, slots).view(np.int64)),
    }


def _digest(labels: np.ndarray, slots: np.ndarray) -> np.uint64:
    """Of (n,) labels and (S, n) slots: a sum of row hashes, which does not depend on the order of the rows.

    Unlike xor it sees rows that come twice. A row's hash mixes a multilinear hash of its numbers (Lemire and
    Kaser 2014) whose multipliers are the places of a row, mixed.
    """
    columns = [labels, *slots]
    multipliers = splitmix64(np.arange(len(columns), dtype=np.uint64)) | np.uint64(1)
    total = np.zeros(len(labels), np.uint64)
    for multiplier, column in zip(multipliers, columns, strict=True):
        total += column.astype(np.uint32).astype(np.uint64) * multiplier
    return splitmix64(total).sum(dtype=np.uint64)


def _described(layout: _Layout, written: pd.DataFrame, days: Mapping[str, int]) -> SplitPart:
    files = tuple(
        DataFile(name=layout.name_of(row.file)[1], num_bytes=row.num_bytes, row_groups=(row.num_rows,))
        for row in written.itertuples()
    )
    return SplitPart(
        num_rows=int(written["num_rows"].sum()),
        num_clicks=int(written["num_clicks"].sum()),
        days=dict(days),
        files=files,
        digest=f"{sum(written['digest'].tolist()) % 2**64:016x}",
    )


def write_rejected(rejected: DataFrame, url: str) -> None:
    """JSON lines (source_file, text, reason) of the rows set aside, for people to read."""
    rejected.coalesce(1).write.mode("overwrite").json(url)


def _arrow_schema(fields: FieldSet, label: str) -> pa.Schema:
    columns = [pa.field(label, pa.int8(), nullable=False)]
    for field in fields:
        kind = pa.from_numpy_dtype(_column_type(field))
        columns += [pa.field(slot, kind, nullable=False) for slot in field.slots]
    return pa.schema(columns)


def _column_type(field: Field) -> type:
    """A field's type; a missing value is nan, so it needs no nulls."""
    return np.float32 if field.is_value else np.int32
