"""The rows of a click log as tasks get them, raw: text by ranges of bytes, Parquet through Spark."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DataType, LongType, StringType, StructType

from deepfm.click_log.click_log import ClickLog, days_to_read, files_of, parquet_rows
from deepfm.click_log.lists import ARRAY_SEPARATOR
from deepfm.click_log.text_ranges import (
    LINES_SCHEMA,
    MAX_RANGE_BYTES,
    MIN_RANGE_BYTES,
    TextFile,
    cut,
    read_tables,
)
from deepfm.spark.index_frame import index_frame
from deepfm.spark.rebatch import rebatched

#: Bytes of text a task reads: starting one costs as much as parsing a tenth of it.
_TASK_BYTES = 256 << 20
#: Bytes of text that the driver reads at a time, for the first rows.
_HEAD_BYTES = 1 << 20
_LINE_COLUMNS = "line binary, source_file string, ds string, row_hash long"
_ARROW_TYPES = {StringType(): pa.string(), LongType(): pa.int64(), BinaryType(): pa.binary()}


@dataclass(frozen=True)
class RawRows:
    """What Spark hands each task, and how the task makes tables of raw rows of it (see parse.parse_rows).

    The rows have `line` (or a Parquet log's columns, as text), `source_file`, `ds` and `row_hash`: 64 bits of
    the row's content, the same wherever and in whatever order it is read.
    """

    source: DataFrame
    tables: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.Table]] = rebatched
    files: Sequence[TextFile] | None = None  # of a text log

    def map(
        self, function: Callable[[Iterator[pa.Table]], Iterator[pa.RecordBatch]], schema: str | StructType
    ) -> DataFrame:
        """What `function` makes of each task's tables, as Spark's own rows."""
        tables = self.tables
        return self.source.mapInArrow(lambda batches: function(tables(batches)), schema)

    def frame(self) -> DataFrame:
        """The raw rows as Spark's own: slow, for a few of them."""
        if self.files is None:
            return self.source
        return self.map(
            lambda tables: (part for table in tables for part in table.to_batches()), _LINE_COLUMNS
        )

    def head(self, num_rows: int) -> pa.Table:
        """The first rows. Text is read here: Spark ends Python workers whose rows it wants no more of."""
        if self.files is None:
            rows = self.source.limit(num_rows).collect()
            schema = pa.schema(
                [(column.name, _ARROW_TYPES[column.dataType]) for column in self.source.schema]
            )
            return pa.Table.from_pylist([row.asDict() for row in rows], schema=schema)
        head = LINES_SCHEMA.empty_table()
        for of in cut(self.files, _HEAD_BYTES):
            for table in read_tables(of):
                head = pa.concat_tables([head, table.slice(0, num_rows - head.num_rows)])
                if head.num_rows == num_rows:
                    return head
        return head


def raw_rows(spark: SparkSession, log: ClickLog, days: Sequence[str] | None = None) -> RawRows:
    """The log's rows; of a log in day folders only those of `days` (all where None)."""
    chosen = days_to_read(log, days)
    if log.row_format.delimiter is None:
        return RawRows(_parquet_columns(parquet_rows(spark, log.url, chosen), log, chosen))
    return _text_rows(spark, [TextFile(*file) for file in files_of(log.url, chosen)])


def count_lines(spark: SparkSession, log: ClickLog, days: Sequence[str] | None = None) -> int:
    """Rows of the log as Spark alone counts them, headers not counted: told by other code than reads them."""
    chosen = days_to_read(log, days)
    if log.row_format.delimiter is None:
        return parquet_rows(spark, log.url, chosen).count()
    files = [url for url, _, _ in files_of(log.url, chosen)]
    lines = spark.read.schema("value string").option("lineSep", "\n").text(files)
    if log.row_format.header_line is not None:
        lines = lines.filter(F.col("value") != log.row_format.header_line)
    return lines.count()


def _text_rows(spark: SparkSession, files: Sequence[TextFile]) -> RawRows:
    num_bytes = sum(file.num_bytes for file in files)
    # Two a slot, so that one slow task is waited for half as long.
    wanted = max(num_bytes // (2 * spark.sparkContext.defaultParallelism), MIN_RANGE_BYTES)
    # Who sets this for Spark's own readers means these rows too.
    limit = spark._jsparkSession.sessionState().conf().filesMaxPartitionBytes()
    ranges = cut(files, max(min(wanted, limit, MAX_RANGE_BYTES), 1))

    def read_ranges(places: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        # Batches, for rebatched to put together what many small files hold.
        yield from rebatched(
            part
            for batch in places
            for place in batch.column(0).to_pylist()
            for table in read_tables(ranges[place])
            for part in table.to_batches()
        )

    return RawRows(index_frame(spark, len(ranges), num_bytes // min(_TASK_BYTES, limit)), read_ranges, files)


def _parquet_columns(rows: DataFrame, log: ClickLog, days: Sequence[str] | None) -> DataFrame:
    row_format = log.row_format
    content = [as_text(rows, name).alias(name) for name in row_format.columns]
    # Of what makes a row, not of what is kept beside it: a gate that reads more finds the same test rows.
    own = {*row_format.fields.columns, row_format.label, row_format.day_column, row_format.time_column}
    hashed = [as_text(rows, name) for name in row_format.columns if name in own]
    day = F.lit(None) if days is None else F.col("ds")
    # The log may have a column ds of its own, which is then among the content.
    folder_day = [] if "ds" in row_format.columns else [day.cast("string").alias("ds")]
    file = F.col("_metadata.file_path").alias("source_file")
    return rows.select(*content, file, *folder_day, F.xxhash64(*hashed).alias("row_hash"))


def as_text(rows: DataFrame, name: str) -> Column:
    """A column as the text that a log's values are compared and counted by, whatever type it has."""
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
        # Whole numbers that a null made floating (pandas does so) are written as the integers they are.
        return F.when(column == F.floor(column), F.floor(column).cast("string")).otherwise(
            column.cast("string")
        )
    return column.cast("string")
