"""Work shared out to tasks: two a slot at least, and as many on each slot."""

from itertools import chain

import pytest

from deepfm.spark.index_frame import index_frame


@pytest.mark.parametrize(
    ("num_pieces", "wanted", "num_tasks"),
    [(70, 9, 10), (70, 0, 4), (3, 9, 3), (1, 0, 1), (100, 10, 10)],
)
def test_tasks_fill_two_slots_in_whole_rounds(spark, num_pieces, wanted, num_tasks):
    assert spark.sparkContext.defaultParallelism == 2
    places = index_frame(spark, num_pieces, wanted).rdd.map(lambda row: row.id).glom().collect()
    assert len(places) == num_tasks
    assert list(chain.from_iterable(places)) == list(range(num_pieces))
    assert max(map(len, places)) - min(map(len, places)) <= 1


def test_no_piece_is_no_work(spark):
    assert index_frame(spark, 0).collect() == []
