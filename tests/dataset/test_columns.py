"""Columns as one block of 32 bits."""

import numpy as np
import pytest

from deepfm.dataset.columns import to_int32_matrix


@pytest.mark.parametrize("num_rows", [0, 1, 2048, 5000])  # at a time: 2048
def test_columns_stand_side_by_side_in_their_order(num_rows):
    columns = [
        np.arange(num_rows, dtype=kind) * factor for factor, kind in enumerate((np.int8, np.int64, np.int32))
    ]
    block = to_int32_matrix(columns)
    assert (block.shape, block.dtype) == ((num_rows, 3), np.int32)
    for at, column in enumerate(columns):
        assert np.array_equal(block[:, at], column)


def test_floats_are_kept_as_their_bits():
    values = np.array([1.5, np.nan, -0.0], np.float32)
    block = to_int32_matrix([np.arange(3), values])
    assert np.array_equal(np.ascontiguousarray(block[:, 1]).view(np.float32), values, equal_nan=True)


@pytest.mark.parametrize("num_rows", [3, 2048, 4096])
def test_columns_of_other_lengths_are_refused(num_rows):
    with pytest.raises(ValueError, match=rf"of one length, found \[2, {num_rows}\]"):
        to_int32_matrix([np.arange(num_rows), np.arange(2)])
