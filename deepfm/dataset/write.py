"""Encoded rows -> a Petastorm split: shuffled, in files of about equal size, each one row group."""

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from petastorm.codecs import ScalarCodec
from petastorm.etl.dataset_metadata import materialize_dataset
from petastorm.unischema import Unischema, UnischemaField
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ByteType,
    DataType,
    FloatType,
    IntegerType,
    LongType,
    StructField,
    StructType,
)

from deepfm import storage
from deepfm.dataset.manifest import DataFile, SplitPart
from deepfm.features.encode import Encoder
from deepfm.features.parse import RowFormat, parse_rows
from deepfm.features.rebatch import rebatched
from deepfm.features.sampling import part_codes
from deepfm.features.split import SPLITS, Split
from deepfm.fields import Field, FieldSet

#: Rows of a file, which is one row group: what a worker reads in one piece, 10 MiB of 39 ids in memory.
ROWS_PER_FILE = 65_536
#: Few rows still come in several files, so that several workers read at once.
MIN_FILES = 8

_ROW_HASH = "__row_hash"


def encoded_rows(
    raw: DataFrame,
    row_format: RowFormat,
    split: Split,
    part: str,
    vocabulary: Broadcast,
    keep_negatives: float = 1.0,
) -> DataFrame:
    """raw rows -> label, an int32 id or a float32 value a field, __row_hash, of the good rows of a part."""
    code = SPLITS.index(part)

    def encode_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        encoder = Encoder(vocabulary.value)
        for batch in rebatched(batches):
            parsed = parse_rows(batch, row_format)
            chosen = part_codes(parsed, split, keep_negatives) == code
            encoded = encoder.encode(parsed.raw.filter(pa.array(chosen)))
            columns = [parsed.labels[chosen], *encoded, parsed.row_hashes[chosen]]
            yield pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names=names)

    names = [row_format.label, *row_format.fields.slots, _ROW_HASH]
    types = [ByteType(), *[_column_type(f)[1] for f in row_format.fields for _ in f.slots], LongType()]
    schema = StructType([StructField(n, t, nullable=False) for n, t in zip(names, types, strict=True)])
    return raw.mapInArrow(encode_partition, schema)


def write_split(
    spark: SparkSession, encoded: DataFrame, fields: FieldSet, label: str, url: str, num_rows: int
) -> None:
    """Write a part as a Petastorm dataset; its rows lie in the order of their hash, which is random."""
    num_files = max(MIN_FILES, -(-num_rows // ROWS_PER_FILE))
    # By the hash of a hash: every file gets an even random share, whatever the input's partitions were.
    shuffled = encoded.repartition(num_files, _ROW_HASH).sortWithinPartitions(_ROW_HASH).drop(_ROW_HASH)
    with materialize_dataset(spark, url, _petastorm_schema(fields, label)):
        shuffled.write.parquet(url)


def describe_split(spark: SparkSession, url: str, days: dict[str, int]) -> SplitPart:
    """Read back what was written: rows, clicks, digest and the files' row groups."""
    rows = spark.read.parquet(url)
    label = rows.columns[0]
    # A sum of hashes does not depend on the order of the rows, and unlike xor it sees rows that come twice.
    row_hash = F.xxhash64(*rows.columns).cast("decimal(20,0)")
    found = rows.agg(
        F.count("*").alias("num"), F.sum(label).alias("clicks"), F.sum(row_hash).alias("digest")
    ).first()
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda file: _described_file(url, file), storage.children(url)))
    return SplitPart(
        num_rows=found.num,
        num_clicks=found.clicks or 0,
        days=days,
        files=tuple(file for file in files if file.num_rows),
        digest=f"{int(found.digest or 0) % 2**64:016x}",
    )


def write_rejected(rejected: DataFrame, url: str) -> None:
    """JSON lines (source_file, text, reason) of the rows set aside, for people to read."""
    rejected.coalesce(1).write.mode("overwrite").json(url)


def _described_file(url: str, file: dict) -> DataFile:
    with fsspec.open(f"{url}/{file['name']}", "rb") as stream:
        metadata = pq.ParquetFile(io.BufferedReader(stream)).metadata
        row_groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    return DataFile(name=file["name"], num_bytes=file["size"], row_groups=row_groups)


def _petastorm_schema(fields: FieldSet, label: str) -> Unischema:
    columns = [UnischemaField(label, np.int8, (), ScalarCodec(ByteType()), False)]
    for field in fields:
        numpy_type, spark_type = _column_type(field)
        for slot in field.slots:
            columns.append(UnischemaField(slot, numpy_type, (), ScalarCodec(spark_type), False))
    return Unischema("Impressions", columns)


def _column_type(field: Field) -> tuple[type, DataType]:
    """A field's type in numpy and in Spark; a missing value is nan, so neither needs nulls."""
    return (np.float32, FloatType()) if field.kind == "value" else (np.int32, IntegerType())
