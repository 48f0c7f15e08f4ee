"""Distribution of work items over Spark tasks by their index."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from deepfm.spark.scratch import read_table


def index_frame(spark: SparkSession, num_items: int, min_tasks: int = 0) -> DataFrame:
    """Indices 0 to `num_items` - 1 in about `min_tasks` tasks with equally many consecutive indices.

    At least two tasks per slot, so that one slow task delays the job half as long, and a multiple of the
    slots: with 9 tasks on 2 slots, one slot would be idle during the last task.
    """
    num_slots = spark.sparkContext.defaultParallelism
    num_tasks = max(2, -(-min_tasks // num_slots)) * num_slots
    return spark.range(0, num_items, 1, max(min(num_tasks, num_items), 1))


def scratch_rows(spark: SparkSession, url: str, names: list[str], schema: str) -> DataFrame:
    """Rows of tables in a scratch folder as a DataFrame."""

    def read_tables(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for index in (index for batch in index_batches for index in batch.column(0).to_pylist()):
            yield from read_table(url, names[index]).to_batches()

    return index_frame(spark, len(names)).mapInArrow(read_tables, schema)
