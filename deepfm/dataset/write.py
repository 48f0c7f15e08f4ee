"""Writer of Petastorm splits: encoded and shuffled rows, in files of equal size with one row group each.

    block -> encode -> rows, sorted by file -> all slices of a file -> sort by hash -> Parquet

Tasks exchange rows as slices of arrays in the scratch folder: Spark rows, its shuffle and its Parquet writer
take several times as long as everything else. The driver writes Petastorm's metadata (see
petastorm_metadata), because every worker would have to import its packages.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

from deepfm import storage
from deepfm.click_log.split import SPLITS
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.data_file import ROWS_PER_FILE, write_data_file
from deepfm.dataset.manifest import DataFile, SplitPart, WeightSums
from deepfm.features.encode import Encoder
from deepfm.features.parsed_blocks import HASH, LABEL, PART, WEIGHT
from deepfm.features.row_counts import RowCounts
from deepfm.features.statistics import LogStatistics
from deepfm.features.vocabulary.chunked import ChunkedVocabulary
from deepfm.fields import FieldSet
from deepfm.kinds.cross import splitmix64
from deepfm.spark.index_frame import index_frame
from deepfm.spark.parts import write_json_parts
from deepfm.spark.scratch import read_table

#: Small splits have several files too, so that several workers read at once.
MIN_FILES = 8
#: Large logs: blocks, or bytes of files, per task. Starting a task costs Spark and Python as much time as the
#: work on one block.
_BLOCKS_PER_TASK = 8
_BYTES_PER_TASK = 88 << 20
#: With a chunked vocabulary, each task reads all chunks once.
_BLOCKS_PER_CHUNKED_TASK = 16

_SLICES = "file long, name string, start long, stop long"
_FILES = (
    "file long, num_bytes long, num_rows long, num_clicks long, digest long, "
    "weight double, click_weight double"
)


@dataclass(frozen=True)
class _Layout:
    """Files of a dataset, numbered: first those of the training split, then validation, then test."""

    url: str
    num_files: tuple[int, ...]  # by split
    label: str
    fields: FieldSet
    weight: str | None  # column of the weights, if there are any

    @property
    def num_row_columns(self) -> int:
        """Columns of the rows that tasks exchange, see _Slice."""
        return 3 + (self.weight is not None) + len(self.fields.slots)

    @property
    def first_files(self) -> np.ndarray:
        """(splits,) number of the first file of each split."""
        return np.cumsum([0, *self.num_files[:-1]])

    def split_and_name(self, file: int) -> tuple[str, str]:
        """Return split and name of a file by its number."""
        split = int(np.searchsorted(self.first_files, file, side="right")) - 1
        return SPLITS[split], f"part-{file - self.first_files[split]:05d}.parquet"


def write_splits(
    spark: SparkSession,
    url: str,
    label: str,
    stats: LogStatistics,
    vocabulary: Broadcast,
    weight: str | None = None,
) -> dict[str, SplitPart]:
    """Encode the blocks of a log and write all splits below `url`; rows are in the order of their hash.

    The hash is random, so the rows are shuffled. The number of files depends on the counts in `stats`.
    `label` and `weight` are the names of columns of the dataset; weight is None if the log has no weights.
    """
    num_rows = [stats.counts.num_rows(split) for split in SPLITS]
    num_files = tuple(max(MIN_FILES, -(-num // ROWS_PER_FILE)) for num in num_rows)
    layout = _Layout(url, num_files, label, vocabulary.value.fields, weight)
    for split in SPLITS:
        storage.make_folder(f"{url}/{split}")
    slices = _encode_blocks(spark, stats.scratch_url, list(stats.blocks), vocabulary, layout)
    files = _write_files(spark, stats.scratch_url, slices, layout)
    file_splits = np.array([layout.split_and_name(file)[0] for file in files["file"]])
    return {
        split: _to_split_part(layout, files[file_splits == split], stats.counts, split) for split in SPLITS
    }


@dataclass(frozen=True)
class _Slice:
    """Rows of one block for one file: bytes of an (n, 3 + S) int32 array of label, row hash and slots.

    In a weighted log it is (n, 4 + S): the bits of the float32 weight precede the slots.
    """

    name: str  # file in the scratch folder
    start: int
    stop: int


def _encode_blocks(
    spark: SparkSession, scratch_url: str, blocks: list[str], vocabulary: Broadcast, layout: _Layout
) -> dict[int, list[_Slice]]:
    """Encode each block into an array in the scratch folder, sorted by file -> slices of each file."""

    def encode_blocks(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        names = [blocks[index] for batch in index_batches for index in batch.column(0).to_pylist()]
        lookup = vocabulary.value
        if isinstance(lookup, ChunkedVocabulary):
            lookup = lookup.subset(read_table(scratch_url, name) for name in names)
        encoder = Encoder(lookup)
        for block in (read_table(scratch_url, name) for name in names):
            files, rows = _sort_by_file(block, encoder, layout)
            numbers, starts = np.unique(files, return_index=True)
            name = f"{uuid.uuid4().hex}.rows"
            storage.write_bytes(f"{scratch_url}/{name}", rows.tobytes())
            bounds = np.append(starts, len(rows)) * rows.itemsize * rows.shape[1]
            slice_names = pa.array([name] * len(numbers))
            columns = [pa.array(numbers), slice_names, pa.array(bounds[:-1]), pa.array(bounds[1:])]
            yield pa.RecordBatch.from_arrays(columns, names=["file", "name", "start", "stop"])

    is_chunked = isinstance(vocabulary.value, ChunkedVocabulary)
    blocks_per_task = _BLOCKS_PER_CHUNKED_TASK if is_chunked else _BLOCKS_PER_TASK
    tasks = index_frame(spark, len(blocks), len(blocks) // blocks_per_task)
    slices: dict[int, list[_Slice]] = {}
    for row in tasks.mapInArrow(encode_blocks, _SLICES).collect():
        slices.setdefault(row.file, []).append(_Slice(row.name, row.start, row.stop))
    return slices


def _sort_by_file(block: pa.Table, encoder: Encoder, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """Encode a block -> (n,) file numbers, ascending, and their int32 rows, see _Slice."""
    parts, hashes = (block.column(name).to_numpy() for name in (PART, HASH))
    labels = block.column(LABEL).to_numpy().astype(np.int32)
    slots = to_int32_matrix(encoder.encode(block))
    columns = [labels, hashes.view(np.int32).reshape(-1, 2), slots]
    if layout.weight is not None:
        columns.insert(2, block.column(WEIGHT).to_numpy().view(np.int32))
    rows = np.column_stack(columns)
    files = _file_numbers(hashes, parts, layout)
    order = np.argsort(files, kind="stable")
    return files[order], rows[order]


def _file_numbers(hashes: np.ndarray, parts: np.ndarray, layout: _Layout) -> np.ndarray:
    """(n,) number of each row's file: even random shares of its split, independent of the blocks."""
    # Hash the hash: in a log that is split by hash, the hashes of a split have similar high bits.
    mixed = splitmix64(hashes.view(np.uint64)) % np.array(layout.num_files, np.uint64)[parts]
    return layout.first_files[parts] + mixed.astype(np.int64)


def _write_files(
    spark: SparkSession, scratch_url: str, slices: dict[int, list[_Slice]], layout: _Layout
) -> pd.DataFrame:
    """Write each file from its slices -> one row per file (see _FILES), by number."""
    shared = spark.sparkContext.broadcast(sorted(slices.items()))

    def write_files(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for index in (index for batch in index_batches for index in batch.column(0).to_pylist()):
            file, file_slices = shared.value[index]
            content = b"".join(
                storage.read_range(f"{scratch_url}/{one.name}", one.start, one.stop) for one in file_slices
            )
            rows = np.frombuffer(content, np.int32).reshape(-1, layout.num_row_columns)
            split, name = layout.split_and_name(file)
            url = f"{layout.url}/{split}/{name}"
            written = write_data_file(url, layout.label, layout.fields, rows, layout.weight)
            yield pa.RecordBatch.from_pylist([{"file": file, **asdict(written)}])

    num_bytes = sum(one.stop - one.start for file_slices in slices.values() for one in file_slices)
    tasks = index_frame(spark, len(slices), num_bytes // _BYTES_PER_TASK)
    files: pd.DataFrame = tasks.mapInArrow(write_files, _FILES).toPandas()
    files = files.sort_values("file")
    shared.destroy()
    return files


def _to_split_part(layout: _Layout, files: pd.DataFrame, counts: RowCounts, split: str) -> SplitPart:
    data_files = tuple(
        DataFile(name=layout.split_and_name(row.file)[1], num_bytes=row.num_bytes, row_groups=(row.num_rows,))
        for row in files.itertuples()
    )
    weights = None
    if layout.weight is not None:
        sums = files[["weight", "click_weight"]].sum()
        weights = WeightSums(weight=sums["weight"], click_weight=sums["click_weight"])
    return SplitPart(
        num_rows=int(files["num_rows"].sum()),
        num_clicks=int(files["num_clicks"].sum()),
        days={day: rows for day, (rows, _) in counts.by_day[split].items()},
        files=data_files,
        digest=f"{sum(files['digest'].tolist()) % 2**64:016x}",
        weights=weights,
        day_weights={
            day: WeightSums(weight=weight, click_weight=clicks)
            for day, (weight, clicks) in counts.weights.get(split, {}).items()
        },
    )


def write_rejected(rejected: DataFrame, url: str) -> None:
    """Write the rejected rows as JSON lines (source_file, text, reason), for people to read."""
    write_json_parts(rejected.coalesce(1), url)
