"""A vocabulary of more counts than the driver holds: Spark sums and sorts them, its tasks write pieces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel, TaskContext
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from deepfm.errors import UserError
from deepfm.features.kinds.quantiles import fit_boundaries
from deepfm.features.kinds.scaling import Scaling
from deepfm.features.statistics import LogStatistics
from deepfm.features.vocabulary.chunked import AnyVocabulary, ChunkedVocabulary, StoredChunk
from deepfm.features.vocabulary.rare_values import num_rare_groups, rare_tables
from deepfm.features.vocabulary.stored import CHUNK_SIZE, Header, StoredVocabulary, VocabularyChunk
from deepfm.fields import FieldSet
from deepfm.spark.index_frame import index_frame, scratch_rows
from deepfm.spark.rebatch import rebatched
from deepfm.spark.scratch import read_table, write_table

_NO_LIMIT = 2**62
#: Of the text of one field's known values: Arrow addresses it by 32 bits, and training holds all of it.
MAX_TEXT_BYTES = 2**31 - 1


@dataclass(frozen=True)
class FittedVocabulary:
    """What ids come from, and what stays unknown."""

    vocabulary: AnyVocabulary
    rare: Iterable[pa.Table]  # (field, value, num), in order: values that may become known later
    num_values: dict[int, int]  # by field: distinct values of the training rows


def fit_vocabulary_on_spark(
    spark: SparkSession, found: LogStatistics, fields: FieldSet, old: StoredVocabulary | None
) -> FittedVocabulary:
    """The same ids as Vocabulary.fit gives, the same rare values; what is known stays in scratch tables."""
    # Each step below reads the sums again.
    counts = _all_counts(spark, found, old).persist(StorageLevel.DISK_ONLY)
    try:
        num_values = {
            row["field"]: row["count"] for row in counts.filter("is_here").groupBy("field").count().collect()
        }
        boundaries = old.header.boundaries if old else _boundaries(counts, fields)
        known, rare = _split_known_rare(spark, counts, fields, old)
        pieces, nums = _write_known(known, found.scratch_url, fields)
        rare_names = _write_rare(rare, found.scratch_url)
    finally:
        counts.unpersist()
    scalings = (
        old.header.scalings
        if old
        else {fields[index].name: Scaling.fit(moments) for index, moments in found.moments.items()}
    )
    header = Header.of(fields, nums, scalings, boundaries)
    rare_read = (read_table(found.scratch_url, name) for name in rare_names)
    return FittedVocabulary(ChunkedVocabulary(header, found.scratch_url, pieces), rare_read, num_values)


def _all_counts(spark: SparkSession, found: LogStatistics, old: StoredVocabulary | None) -> DataFrame:
    """field, value, num, place, is_here: a row a value.

    `place`: how many values of its field come before it, where it is known already; `is_here`: whether the
    survey found it.
    """
    new = scratch_rows(spark, found.scratch_url, list(found.counted), "field int, value string, num long")
    parts = new.withColumn("place", F.lit(None).cast("long")).withColumn("is_here", F.lit(True))
    if old:
        parts = parts.unionByName(_old_counts(spark, old).withColumn("is_here", F.lit(False)))
    sums = (F.sum("num").alias("num"), F.max("place").alias("place"), F.max("is_here").alias("is_here"))
    return parts.groupBy("field", "value").agg(*sums)


def _old_counts(spark: SparkSession, old: StoredVocabulary) -> DataFrame:
    """field, value, num, place of known values, and of rare ones without a place; a row group at a time."""
    num_known_groups, num_groups = old.num_row_groups, old.num_row_groups + num_rare_groups(old.url)

    def read(groups: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for group in (group for batch in groups for group in batch.column(0).to_pylist()):
            if group < num_known_groups:
                tables = map(_placed, old.pieces([group]))
            else:
                tables = (
                    table.append_column("place", pa.nulls(table.num_rows, pa.int64()))
                    for table in rare_tables(old.url, [group - num_known_groups])
                )
            for table in tables:
                yield from table.to_batches()

    return index_frame(spark, num_groups).mapInArrow(read, "field int, value string, num long, place long")


def _placed(piece: VocabularyChunk) -> pa.Table:
    num_values = len(piece.values)
    fields = pa.array([piece.field] * num_values, pa.int32())
    places = pa.array(range(piece.start, piece.start + num_values), pa.int64())
    return pa.table({"field": fields, "value": piece.values, "num": piece.counts, "place": places})


def _boundaries(counts: DataFrame, fields: FieldSet) -> dict[str, tuple[float, ...]]:
    """Of quantiles, whose values are so rounded that the driver can hold them."""
    found = {}
    for index, field in enumerate(fields):
        if field.kind == "quantile":
            of_field = counts.filter(F.col("field") == index).select("value", "num").toPandas()
            values, nums = pa.array(of_field["value"], pa.string()), pa.array(of_field["num"], pa.int64())
            found[field.name] = fit_boundaries(values, nums, field.quantile_buckets)
    return found


def _split_known_rare(
    spark: SparkSession, counts: DataFrame, fields: FieldSet, old: StoredVocabulary | None
) -> tuple[DataFrame, DataFrame]:
    """Known values (field, place, value, num) and rare ones (field, value, num)."""
    num_old = old.header.num_known if old else [0] * len(fields)
    rules = [
        (index, field.min_count, max(field.max_size - num, 0) if field.max_size else _NO_LIMIT, num)
        for index, (field, num) in enumerate(zip(fields, num_old, strict=True))
        if field.has_known_values
    ]
    rules = spark.createDataFrame(rules, "field int, min_count long, room long, num_old long")
    new = counts.filter(F.col("place").isNull()).join(F.broadcast(rules), "field")
    by_count = Window.partitionBy("field").orderBy(F.desc("num"), "value")
    often = new.filter(F.col("num") >= F.col("min_count")).withColumn("rank", F.row_number().over(by_count))
    place = (F.col("num_old") + F.col("rank") - 1).alias("place")
    known = often.filter(F.col("rank") <= F.col("room")).select("field", place, "value", "num")
    known = known.unionByName(counts.filter(F.col("place").isNotNull()).select(*known.columns))
    rare = new.filter(F.col("num") < F.col("min_count")).select("field", "value", "num")
    if any(field.max_size for field in fields):
        too_many = often.filter(F.col("rank") > F.col("room"))
        rare = rare.unionByName(too_many.select(*rare.columns))
    return known, rare


def _write_known(
    known: DataFrame, scratch_url: str, fields: FieldSet
) -> tuple[tuple[StoredChunk, ...], list[int]]:
    """The pieces in the order of fields and ids, and how many values each field has."""

    def write(values: pa.Table) -> pa.Table:
        values = values.sort_by("place")
        name = write_table(scratch_url, values.select(["value", "num"]))
        first = {"field": values.column("field")[0].as_py(), "start": values.column("place")[0].as_py()}
        num_bytes = pc.sum(pc.binary_length(values.column("value"))).as_py()
        sizes = {"num_values": values.num_rows, "num_bytes": num_bytes}
        return pa.Table.from_pylist([first | sizes | {"name": name}], schema=written)

    numbers = [(name, pa.int64()) for name in ("start", "num_values", "num_bytes")]
    written = pa.schema([("field", pa.int32()), *numbers, ("name", pa.string())])
    of_piece = known.withColumn("piece", F.floor(F.col("place") / CHUNK_SIZE))
    in_spark = "field int, start long, num_values long, num_bytes long, name string"
    rows = of_piece.groupBy("field", "piece").applyInArrow(write, in_spark).collect()
    nums, sizes = [0] * len(fields), [0] * len(fields)
    for row in rows:
        nums[row.field] += row.num_values
        sizes[row.field] += row.num_bytes
    for field, num_bytes in zip(fields, sizes, strict=True):
        if num_bytes > MAX_TEXT_BYTES:
            raise UserError(
                f"field {field.name}: expected at most {MAX_TEXT_BYTES} bytes of known values, found "
                f"{num_bytes}; raise its min_count, or give it max_size or hash_buckets"
            )
    rows.sort(key=lambda row: (row.field, row.start))
    return tuple(StoredChunk(row.field, row.start, row.name) for row in rows), nums


def _write_rare(rare: DataFrame, scratch_url: str) -> list[str]:
    """Names of tables that hold them in order of field and value."""

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        task = TaskContext.get().partitionId()
        for number, table in enumerate(rebatched(batches, CHUNK_SIZE)):
            place = {"task": task, "number": number, "name": write_table(scratch_url, table)}
            yield pa.RecordBatch.from_pylist([place])

    written = rare.orderBy("field", "value").mapInArrow(write, "task long, number long, name string")
    return [row.name for row in sorted(written.collect(), key=lambda row: (row.task, row.number))]
