"""Merging of Arrow batches."""

import pyarrow as pa
import pytest

from deepfm.spark.rebatch import rebatch


@pytest.mark.parametrize(("sizes", "expected"), [([], []), ([0], []), ([2, 2, 2, 1], [4, 3]), ([9], [9])])
def test_small_batches_are_merged(sizes, expected):
    batches = [pa.RecordBatch.from_pydict({"x": pa.array([7] * size, pa.int64())}) for size in sizes]
    assert [table.num_rows for table in rebatch(batches, num_rows=4)] == expected
