"""Pieces of work shared out to Spark's tasks."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from deepfm.spark.scratch import read_table


def index_frame(spark: SparkSession, num_pieces: int, wanted: int = 0) -> DataFrame:
    """The places 0 to `num_pieces` - 1, in about `wanted` tasks that each take the same run of them.

    Two a slot at least, so that one slow task is waited for half as long, and a whole number a slot: with 9
    tasks on 2 slots one would wait for the other through the last tenth.
    """
    num_slots = spark.sparkContext.defaultParallelism
    num_tasks = max(2, -(-wanted // num_slots)) * num_slots
    return spark.range(0, num_pieces, 1, max(min(num_tasks, num_pieces), 1))


def scratch_rows(spark: SparkSession, url: str, names: list[str], schema: str) -> DataFrame:
    """The rows of tables in a scratch folder, as Spark's own."""

    def read_tables(places: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for place in (place for batch in places for place in batch.column(0).to_pylist()):
            yield from read_table(url, names[place]).to_batches()

    return index_frame(spark, len(names)).mapInArrow(read_tables, schema)
