"""Fitting of a vocabulary by Spark if the driver cannot hold the counts: tasks write chunks of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel, TaskContext
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from deepfm.errors import UserError
from deepfm.features.statistics import LogStatistics
from deepfm.features.vocabulary.chunked import AnyVocabulary, ChunkedVocabulary, StoredChunk
from deepfm.features.vocabulary.rare_values import num_rare_groups, rare_tables
from deepfm.features.vocabulary.stored import CHUNK_SIZE, Header, StoredVocabulary, VocabularyChunk
from deepfm.fields import FieldSet
from deepfm.kinds.quantile import fit_boundaries
from deepfm.kinds.scaling import Scaling
from deepfm.spark.index_frame import index_frame, scratch_rows
from deepfm.spark.rebatch import rebatch
from deepfm.spark.scratch import read_table, write_table

_NO_LIMIT = 2**62
#: Maximum text size of one field's known values: Arrow uses 32-bit offsets, and training holds all of it.
MAX_TEXT_BYTES = 2**31 - 1


@dataclass(frozen=True)
class FittedVocabulary:
    """A fitted vocabulary, and the values that are not part of it."""

    vocabulary: AnyVocabulary
    rare: Iterable[pa.Table]  # (field, value, num), in order: values that may become known later
    num_values: dict[int, int]  # by field: distinct values of the training rows


def fit_vocabulary_on_spark(
    spark: SparkSession, stats: LogStatistics, fields: FieldSet, old: StoredVocabulary | None
) -> FittedVocabulary:
    """Fit the same ids and rare values as Vocabulary.fit, but leave the known values in scratch tables."""
    # Persisted because each step below reads the sums again.
    counts = _all_counts(spark, stats, old).persist(StorageLevel.DISK_ONLY)
    try:
        num_values = {
            row["field"]: row["count"] for row in counts.filter("in_log").groupBy("field").count().collect()
        }
        boundaries = old.header.boundaries if old else _boundaries(counts, fields)
        known, rare = _split_known_rare(spark, counts, fields, old)
        chunks, num_known = _write_known(known, stats.scratch_url, fields)
        rare_names = _write_rare(rare, stats.scratch_url)
    finally:
        counts.unpersist()
    scalings = (
        old.header.scalings
        if old
        else {fields[index].name: Scaling.fit(moments) for index, moments in stats.moments.items()}
    )
    header = Header.create(fields, num_known, scalings, boundaries)
    rare_values = (read_table(stats.scratch_url, name) for name in rare_names)
    return FittedVocabulary(ChunkedVocabulary(header, stats.scratch_url, chunks), rare_values, num_values)


def _all_counts(spark: SparkSession, stats: LogStatistics, old: StoredVocabulary | None) -> DataFrame:
    """field, value, num, value_index, in_log: one row per value.

    `value_index`: index among the known values of the field, null if not known yet; `in_log`: whether the
    value occurs in this log.
    """
    columns = "field int, value string, num long"
    new = scratch_rows(spark, stats.scratch_url, list(stats.count_tables), columns)
    parts = new.withColumn("value_index", F.lit(None).cast("long")).withColumn("in_log", F.lit(True))
    if old:
        parts = parts.unionByName(_old_counts(spark, old).withColumn("in_log", F.lit(False)))
    return parts.groupBy("field", "value").agg(
        F.sum("num").alias("num"), F.max("value_index").alias("value_index"), F.max("in_log").alias("in_log")
    )


def _old_counts(spark: SparkSession, old: StoredVocabulary) -> DataFrame:
    """field, value, num, value_index of known values, and of rare ones without index; by row group."""
    num_known_groups, num_groups = old.num_row_groups, old.num_row_groups + num_rare_groups(old.url)

    def read(groups: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tables: Iterator[pa.Table]
        for group in (group for batch in groups for group in batch.column(0).to_pylist()):
            if group < num_known_groups:
                tables = map(_chunk_table, old.chunks([group]))
            else:
                tables = (
                    table.append_column("value_index", pa.nulls(table.num_rows, pa.int64()))
                    for table in rare_tables(old.url, [group - num_known_groups])
                )
            for table in tables:
                yield from table.to_batches()

    columns = "field int, value string, num long, value_index long"
    return index_frame(spark, num_groups).mapInArrow(read, columns)


def _chunk_table(chunk: VocabularyChunk) -> pa.Table:
    num_values = len(chunk.values)
    fields = pa.array([chunk.field] * num_values, pa.int32())
    indices = pa.array(range(chunk.start, chunk.start + num_values), pa.int64())
    return pa.table({"field": fields, "value": chunk.values, "num": chunk.counts, "value_index": indices})


def _boundaries(counts: DataFrame, fields: FieldSet) -> dict[str, tuple[float, ...]]:
    """Boundaries of quantile fields, whose rounded values fit on the driver."""
    boundaries = {}
    for index, field in enumerate(fields):
        if field.behaviour.uses_counts and not field.behaviour.has_vocabulary:
            frame: pd.DataFrame = counts.filter(F.col("field") == index).select("value", "num").toPandas()
            values, value_counts = pa.array(frame["value"], pa.string()), pa.array(frame["num"], pa.int64())
            boundaries[field.name] = fit_boundaries(values, value_counts, field.quantile_buckets)
    return boundaries


def _split_known_rare(
    spark: SparkSession, counts: DataFrame, fields: FieldSet, old: StoredVocabulary | None
) -> tuple[DataFrame, DataFrame]:
    """Known values (field, value_index, value, num) and rare ones (field, value, num)."""
    num_old = old.header.num_known if old else [0] * len(fields)
    rules = [
        (index, field.min_count, max(field.max_size - num, 0) if field.max_size else _NO_LIMIT, num)
        for index, (field, num) in enumerate(zip(fields, num_old, strict=True))
        if field.has_known_values
    ]
    rule_frame = spark.createDataFrame(rules, "field int, min_count long, capacity long, num_old long")
    new = counts.filter(F.col("value_index").isNull()).join(F.broadcast(rule_frame), "field")
    by_count = Window.partitionBy("field").orderBy(F.desc("num"), "value")
    frequent = new.filter(F.col("num") >= F.col("min_count"))
    frequent = frequent.withColumn("rank", F.row_number().over(by_count))
    value_index = (F.col("num_old") + F.col("rank") - 1).alias("value_index")
    known = frequent.filter(F.col("rank") <= F.col("capacity")).select("field", value_index, "value", "num")
    known = known.unionByName(counts.filter(F.col("value_index").isNotNull()).select(*known.columns))
    rare = new.filter(F.col("num") < F.col("min_count")).select("field", "value", "num")
    if any(field.max_size for field in fields):
        beyond_capacity = frequent.filter(F.col("rank") > F.col("capacity"))
        rare = rare.unionByName(beyond_capacity.select(*rare.columns))
    return known, rare


def _write_known(
    known: DataFrame, scratch_url: str, fields: FieldSet
) -> tuple[tuple[StoredChunk, ...], list[int]]:
    """Write the known values. Return the chunks in the order of fields and ids, and each field's count."""

    def write(values: pa.Table) -> pa.Table:
        values = values.sort_by("value_index")
        name = write_table(scratch_url, values.select(["value", "num"]))
        first = {"field": values.column("field")[0].as_py(), "start": values.column("value_index")[0].as_py()}
        num_bytes = pc.sum(pc.binary_length(values.column("value"))).as_py()
        sizes = {"num_values": values.num_rows, "num_bytes": num_bytes}
        return pa.Table.from_pylist([first | sizes | {"name": name}], schema=arrow_schema)

    numbers = [(name, pa.int64()) for name in ("start", "num_values", "num_bytes")]
    arrow_schema = pa.schema([("field", pa.int32()), *numbers, ("name", pa.string())])
    spark_schema = "field int, start long, num_values long, num_bytes long, name string"
    with_chunk = known.withColumn("chunk", F.floor(F.col("value_index") / CHUNK_SIZE))
    rows = with_chunk.groupBy("field", "chunk").applyInArrow(write, spark_schema).collect()
    num_known, sizes = [0] * len(fields), [0] * len(fields)
    for row in rows:
        num_known[row.field] += row.num_values
        sizes[row.field] += row.num_bytes
    for field, num_bytes in zip(fields, sizes, strict=True):
        if num_bytes > MAX_TEXT_BYTES:
            raise UserError(
                f"field {field.name}: expected at most {MAX_TEXT_BYTES} bytes of known values, found "
                f"{num_bytes}; raise its min_count, or set max_size or hash_buckets"
            )
    rows.sort(key=lambda row: (row.field, row.start))
    return tuple(StoredChunk(row.field, row.start, row.name) for row in rows), num_known


def _write_rare(rare: DataFrame, scratch_url: str) -> list[str]:
    """Write the rare values. Return the names of the tables, in order of field and value."""

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        assert context is not None
        task = context.partitionId()
        for number, table in enumerate(rebatch(batches, CHUNK_SIZE)):
            row = {"task": task, "number": number, "name": write_table(scratch_url, table)}
            yield pa.RecordBatch.from_pylist([row])

    written = rare.orderBy("field", "value").mapInArrow(write, "task long, number long, name string")
    return [row.name for row in sorted(written.collect(), key=lambda row: (row.task, row.number))]
