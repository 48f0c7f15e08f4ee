"""Raw rows of a click log, distributed over Spark tasks: text by byte ranges, Parquet through Spark."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DataType, LongType, StringType, StructType

from deepfm.click_log.click_log import ClickLog, days_to_read, list_files, parquet_rows
from deepfm.click_log.text_ranges import (
    LINES_SCHEMA,
    MAX_RANGE_BYTES,
    MIN_RANGE_BYTES,
    TextFile,
    read_tables,
    split_into_ranges,
)
from deepfm.kinds.list import ARRAY_SEPARATOR
from deepfm.spark.index_frame import index_frame
from deepfm.spark.internals import max_partition_bytes
from deepfm.spark.rebatch import rebatch

#: Bytes of text per task: starting a task takes as long as parsing a tenth of this.
_TASK_BYTES = 256 << 20
#: Bytes of text that the driver reads at a time to get the first rows.
_HEAD_BYTES = 1 << 20
_LINE_COLUMNS = "line binary, source_file string, ds string, row_hash long"
_ARROW_TYPES: dict[DataType, pa.DataType] = {
    StringType(): pa.string(),
    LongType(): pa.int64(),
    BinaryType(): pa.binary(),
}


@dataclass(frozen=True)
class RawRows:
    """Spark input of each task, and the function that reads it as tables of raw rows (see parse.parse_rows).

    The rows have `line` (or a Parquet log's columns, as text), `source_file`, `ds` and `row_hash`: a 64-bit
    hash of the row's content that does not depend on file or order.
    """

    source: DataFrame
    tables: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.Table]] = rebatch
    files: Sequence[TextFile] | None = None  # of a text log

    def map(
        self, function: Callable[[Iterator[pa.Table]], Iterator[pa.RecordBatch]], schema: str | StructType
    ) -> DataFrame:
        """Apply `function` to each task's tables and return its batches as a Spark DataFrame."""
        tables = self.tables
        return self.source.mapInArrow(lambda batches: function(tables(batches)), schema)

    def frame(self) -> DataFrame:
        """Raw rows as a Spark DataFrame: slow, for a few rows."""
        if self.files is None:
            return self.source
        return self.map(
            lambda tables: (part for table in tables for part in table.to_batches()), _LINE_COLUMNS
        )

    def head(self, num_rows: int) -> pa.Table:
        """Return the first rows. Text is read on the driver: Spark's limit() would kill Python workers."""
        if self.files is None:
            rows = self.source.limit(num_rows).collect()
            schema = pa.schema(
                [(column.name, _ARROW_TYPES[column.dataType]) for column in self.source.schema]
            )
            return pa.Table.from_pylist([row.asDict() for row in rows], schema=schema)
        head = LINES_SCHEMA.empty_table()
        for text_range in split_into_ranges(self.files, _HEAD_BYTES):
            for table in read_tables(text_range):
                head = pa.concat_tables([head, table.slice(0, num_rows - head.num_rows)])
                if head.num_rows == num_rows:
                    return head
        return head


def raw_rows(spark: SparkSession, log: ClickLog, days: Sequence[str] | None = None) -> RawRows:
    """Return the log's rows; for a log in day folders only those of `days` (None: all)."""
    folders = days_to_read(log, days)
    if log.row_format.delimiter is None:
        return RawRows(_parquet_columns(parquet_rows(spark, log.url, folders), log, folders))
    return _text_rows(spark, [TextFile(*file) for file in list_files(log.url, folders)])


def count_lines(spark: SparkSession, log: ClickLog, days: Sequence[str] | None = None) -> int:
    """Count the log's rows without headers by Spark's own readers, as an independent check of ours."""
    folders = days_to_read(log, days)
    if log.row_format.delimiter is None:
        return parquet_rows(spark, log.url, folders).count()
    files = [url for url, _, _ in list_files(log.url, folders)]
    lines = spark.read.schema("value string").option("lineSep", "\n").text(files)
    if log.row_format.header_line is not None:
        lines = lines.filter(F.col("value") != log.row_format.header_line)
    return lines.count()


def _text_rows(spark: SparkSession, files: Sequence[TextFile]) -> RawRows:
    num_bytes = sum(file.num_bytes for file in files)
    # Two ranges per task slot, so that one slow task delays the job half as long.
    target = max(num_bytes // (2 * spark.sparkContext.defaultParallelism), MIN_RANGE_BYTES)
    # Respect spark.sql.files.maxPartitionBytes, as Spark's own readers do.
    limit = max_partition_bytes(spark)
    ranges = split_into_ranges(files, max(min(target, limit, MAX_RANGE_BYTES), 1))

    def read_ranges(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        # Yield batches, so that rebatch can merge those of many small files.
        yield from rebatch(
            part
            for batch in index_batches
            for index in batch.column(0).to_pylist()
            for table in read_tables(ranges[index])
            for part in table.to_batches()
        )

    return RawRows(index_frame(spark, len(ranges), num_bytes // min(_TASK_BYTES, limit)), read_ranges, files)


def _parquet_columns(rows: DataFrame, log: ClickLog, days: Sequence[str] | None) -> DataFrame:
    row_format = log.row_format
    content = [as_text(rows, name).alias(name) for name in row_format.columns]
    # Exclude `keep` columns from the hash: a gate that reads more columns must find the same test rows.
    hashed_names = {
        *row_format.fields.columns,
        row_format.label,
        row_format.day_column,
        row_format.time_column,
    }
    hashed = [as_text(rows, name) for name in row_format.columns if name in hashed_names]
    day = F.lit(None) if days is None else F.col("ds")
    # A column ds of the log itself is already part of the content.
    folder_day = [] if "ds" in row_format.columns else [day.cast("string").alias("ds")]
    file = F.col("_metadata.file_path").alias("source_file")
    return rows.select(*content, file, *folder_day, F.xxhash64(*hashed).alias("row_hash"))


def as_text(rows: DataFrame, name: str) -> Column:
    """A column as text, the form in which a log's values are compared and counted, whatever its type."""
    column, data_type = F.col(f"`{name}`"), rows.schema[name].dataType
    if isinstance(data_type, ArrayType):
        texts = F.transform(column, lambda value: _value_as_text(value, data_type.elementType))
        return F.concat_ws(ARRAY_SEPARATOR, texts)
    return _value_as_text(column, data_type)


def _value_as_text(column: Column, data_type: DataType) -> Column:
    kind = data_type.typeName()
    if kind == "boolean":
        return column.cast("int").cast("string")
    if kind in ("float", "double", "decimal"):
        # Write integers that became floating point because of nulls (as in pandas) as integers.
        return F.when(column == F.floor(column), F.floor(column).cast("string")).otherwise(
            column.cast("string")
        )
    return column.cast("string")
