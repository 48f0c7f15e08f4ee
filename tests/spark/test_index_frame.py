"""Distribution of indices over tasks: at least two tasks per slot, and equally many on each slot."""

from itertools import chain

import pytest

from deepfm.spark.index_frame import index_frame


@pytest.mark.parametrize(
    ("num_items", "min_tasks", "num_tasks"),
    [(70, 9, 10), (70, 0, 4), (3, 9, 3), (1, 0, 1), (100, 10, 10)],
)
def test_tasks_fill_all_slots_in_complete_rounds(spark, num_items, min_tasks, num_tasks):
    assert spark.sparkContext.defaultParallelism == 2
    indices = index_frame(spark, num_items, min_tasks).rdd.map(lambda row: row.id).glom().collect()
    assert len(indices) == num_tasks
    assert list(chain.from_iterable(indices)) == list(range(num_items))
    assert max(map(len, indices)) - min(map(len, indices)) <= 1


def test_no_items_give_no_rows(spark):
    assert index_frame(spark, 0).collect() == []
