"""Pieces of work shared out to Spark's tasks."""

from pyspark.sql import DataFrame, SparkSession


def places_of(spark: SparkSession, num_pieces: int, wanted: int = 0) -> DataFrame:
    """The places 0 to `num_pieces` - 1, in about `wanted` tasks that each take the same run of them.

    Two a slot at least, so that one slow task is waited for half as long, and a whole number a slot: with 9
    tasks on 2 slots one would wait for the other through the last tenth.
    """
    num_slots = spark.sparkContext.defaultParallelism
    num_tasks = max(2, -(-wanted // num_slots)) * num_slots
    return spark.range(0, num_pieces, 1, max(min(num_tasks, num_pieces), 1))
