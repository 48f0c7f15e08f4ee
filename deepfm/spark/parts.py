"""Rows of a DataFrame as files of a folder, written and read by Spark's tasks on any filesystem.

Spark's own writers and readers reach only filesystems that Hadoop has a driver for.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from deepfm import storage
from deepfm.spark.index_frame import index_frame

#: Arrow batches of Spark have 10,000 rows; a row group of Parquet should have more.
_ROW_GROUP_BYTES = 64 << 20

_Writer = Callable[[BinaryIO, pa.Schema, Iterable[pa.RecordBatch]], int]


def write_parquet_parts(frame: DataFrame, url: str) -> int:
    """Write one Parquet file per partition that has rows, `part-00000.parquet`, … -> number of rows.

    A retried task writes the same rows under the same name. Without rows, there is one file with the columns.
    """
    num_rows = _write_parts(frame, url, "parquet", _write_parquet)
    if not num_rows:
        with storage.atomic_writer(f"{url}/part-00000.parquet") as file:
            pq.write_table(to_arrow_schema(frame.schema).empty_table(), file)
    return num_rows


def write_json_parts(frame: DataFrame, url: str) -> int:
    """Write one file of JSON lines per partition that has rows, without nulls -> number of rows."""
    return _write_parts(frame, url, "json", _write_json)


def read_parquet_parts(spark: SparkSession, url: str) -> DataFrame:
    """Read the Parquet files of a folder, one task per file."""
    urls = [f"{url}/{child['name']}" for child in storage.children(url) if not child["is_folder"]]
    with storage.open_file(urls[0]) as file:
        schema = pq.read_schema(file)

    def read_files(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for index in (index for batch in index_batches for index in batch.column(0).to_pylist()):
            with storage.open_file(urls[index]) as file:
                yield from pq.ParquetFile(file).iter_batches()

    spark_schema = from_arrow_schema(schema, prefer_timestamp_ntz=True)
    return index_frame(spark, len(urls), len(urls)).mapInArrow(read_files, spark_schema)


def _write_parts(frame: DataFrame, url: str, extension: str, write: _Writer) -> int:
    def write_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        assert context is not None
        remaining = (batch for batch in batches if batch.num_rows)
        first = next(remaining, None)
        if first is not None:
            name = f"part-{context.partitionId():05d}.{extension}"
            with storage.atomic_writer(f"{url}/{name}") as file:
                num_rows = write(file, first.schema, chain([first], remaining))
            yield pa.RecordBatch.from_pylist([{"num_rows": num_rows}])

    storage.make_folder(url)
    return sum(part.num_rows for part in frame.mapInArrow(write_partition, "num_rows long").collect())


def _write_parquet(file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    num_rows, group = 0, []
    with pq.ParquetWriter(file, schema) as writer:
        for batch in batches:
            group.append(batch)
            num_rows += batch.num_rows
            if sum(one.nbytes for one in group) >= _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group))
    return num_rows


def _write_json(file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    num_rows = 0
    for batch in batches:
        for row in batch.to_pylist():
            values = {name: value for name, value in row.items() if value is not None}
            file.write((json.dumps(values, ensure_ascii=False) + "\n").encode())
        num_rows += batch.num_rows
    return num_rows
