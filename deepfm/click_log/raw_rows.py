"""Raw rows of a click log, distributed over Spark tasks that read its files with Arrow.

Text is read by byte ranges, Parquet by row groups, ORC by stripes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.columnar.columns import ColumnarColumns, read_columns, split_into_groups
from deepfm.click_log.columnar.files import read_footers
from deepfm.click_log.log_files import LogFile
from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.text.multiline import read_records
from deepfm.click_log.text.ranges import (
    LINES_SCHEMA,
    MAX_RANGE_BYTES,
    MIN_RANGE_BYTES,
    TextRange,
    read_tables,
    split_into_ranges,
)
from deepfm.click_log.text.row_count import count_rows_of
from deepfm.spark.index_frame import index_frame
from deepfm.spark.internals import max_partition_bytes
from deepfm.spark.rebatch import rebatch

Range = TypeVar("Range")

#: Bytes of text per task: starting a task takes as long as parsing a tenth of this.
_TASK_BYTES = 256 << 20
#: Bytes of text that the driver reads at a time to get the first rows.
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class RawRows:
    """Spark input of each task, and the function that reads it as tables of raw rows (see parse.parse_rows).

    The rows have `line` (or a Parquet log's columns, as text), `source_file`, `ds` and `row_hash`: a 64-bit
    hash of the row's content that does not depend on file or order.
    """

    source: DataFrame
    tables: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.Table]] = rebatch
    schema: pa.Schema | None = None  # of the tables; None: the source has the rows
    first_tables: Callable[[], Iterator[pa.Table]] | None = None  # the rows in order, on the driver

    def map(
        self, function: Callable[[Iterator[pa.Table]], Iterator[pa.RecordBatch]], schema: str | StructType
    ) -> DataFrame:
        """Apply `function` to each task's tables and return its batches as a Spark DataFrame."""
        tables = self.tables
        return self.source.mapInArrow(lambda batches: function(tables(batches)), schema)

    @property
    def spark_schema(self) -> StructType:
        """Schema of the rows."""
        return self.source.schema if self.schema is None else from_arrow_schema(self.schema)

    def frame(self) -> DataFrame:
        """Raw rows as a Spark DataFrame: slow, for a few rows."""
        if self.schema is None:
            return self.source
        return self.map(
            lambda tables: (part for table in tables for part in table.to_batches()), self.spark_schema
        )

    def head(self, num_rows: int) -> pa.Table:
        """Return the first rows. Files are read on the driver: Spark's limit() would kill Python workers."""
        if self.schema is None or self.first_tables is None:
            rows = self.source.limit(num_rows).collect()
            schema = to_arrow_schema(self.source.schema)
            return pa.Table.from_pylist([row.asDict() for row in rows], schema=schema)
        head = self.schema.empty_table()
        for table in self.first_tables():
            head = pa.concat_tables([head, table.slice(0, num_rows - head.num_rows)])
            if head.num_rows == num_rows:
                break
        return head


def raw_rows(spark: SparkSession, log: ClickLog, days: Sequence[str] | None = None) -> RawRows:
    """Return the log's rows; for a log in day folders only those of `days` (None: all)."""
    files = [LogFile(*file) for file in log.list_files(days)]
    if log.row_format.is_text:
        return _text_rows(spark, files, log.row_format)
    return _columnar_rows(spark, files, log)


def count_rows(spark: SparkSession, log: ClickLog, days: Sequence[str] | None = None) -> int:
    """Count the log's rows without headers, as an independent check of the rows that tasks read.

    Lines are counted by their newlines, rows of Parquet and ORC files by their footers.
    """
    files = [LogFile(*file) for file in log.list_files(days)]
    row_format = log.row_format
    if not row_format.is_text:
        footers = read_footers([file.url for file in files], log.file_format)
        return sum(file.num_rows for file in footers)
    num_bytes = sum(file.num_bytes for file in files)
    ranges = split_into_ranges(files, _range_bytes(spark, num_bytes), whole=row_format.multiline)

    def count_ranges(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        indices = (index for batch in index_batches for index in batch.column(0).to_pylist())
        num_lines = sum(count_rows_of(ranges[index], row_format) for index in indices)
        yield pa.RecordBatch.from_pydict({"num_lines": pa.array([num_lines], pa.int64())})

    counts = _task_frame(spark, len(ranges), num_bytes).mapInArrow(count_ranges, "num_lines long")
    return sum(row.num_lines for row in counts.collect())


def _text_rows(spark: SparkSession, files: Sequence[LogFile], row_format: RowFormat) -> RawRows:
    num_bytes, whole = sum(file.num_bytes for file in files), row_format.multiline
    ranges = split_into_ranges(files, _range_bytes(spark, num_bytes), whole=whole)

    def read(part: TextRange) -> Iterator[pa.Table]:
        return read_records(part.url, part.day, row_format) if whole else read_tables(part)

    def first_tables() -> Iterator[pa.Table]:
        for part in split_into_ranges(files, _HEAD_BYTES, whole=whole):
            yield from read(part)

    source = _task_frame(spark, len(ranges), num_bytes)
    return RawRows(source, _reader(ranges, read), LINES_SCHEMA, first_tables)


def _columnar_rows(spark: SparkSession, files: Sequence[LogFile], log: ClickLog) -> RawRows:
    row_format = log.row_format
    special = (*row_format.label_columns, row_format.day_column, row_format.time_column)
    # `keep` columns are not hashed: a gate that reads more columns must find the same test rows.
    hashed = {*row_format.fields.columns, *special}
    columns = ColumnarColumns(
        names=row_format.columns,
        hashed=tuple(name for name in row_format.columns if name in hashed),
        times=frozenset(row_format.time_columns),
        kept=log.kept_types,
        file_format=log.file_format,
    )
    num_bytes = sum(file.num_bytes for file in files)
    footers = read_footers([file.url for file in files], log.file_format)
    ranges = split_into_groups(files, footers, _range_bytes(spark, num_bytes))
    read = partial(read_columns, columns=columns)

    def first_tables() -> Iterator[pa.Table]:
        for part in ranges:
            yield from read(part)

    source = _task_frame(spark, len(ranges), num_bytes)
    return RawRows(source, _reader(ranges, read), columns.schema, first_tables)


def _range_bytes(spark: SparkSession, num_bytes: int) -> int:
    # Two ranges per task slot, so that one slow task delays the job half as long.
    target = max(num_bytes // (2 * spark.sparkContext.defaultParallelism), MIN_RANGE_BYTES)
    # Respect spark.sql.files.maxPartitionBytes, as Spark's own readers do.
    return max(min(target, max_partition_bytes(spark), MAX_RANGE_BYTES), 1)


def _task_frame(spark: SparkSession, num_ranges: int, num_bytes: int) -> DataFrame:
    return index_frame(spark, num_ranges, num_bytes // min(_TASK_BYTES, max_partition_bytes(spark)))


def _reader(
    ranges: Sequence[Range], read: Callable[[Range], Iterator[pa.Table]]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.Table]]:
    def read_ranges(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        # Yield batches, so that rebatch can merge those of many small files.
        yield from rebatch(
            part
            for batch in index_batches
            for index in batch.column(0).to_pylist()
            for table in read(ranges[index])
            for part in table.to_batches()
        )

    return read_ranges
