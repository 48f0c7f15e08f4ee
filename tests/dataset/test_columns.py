"""Columns as one int32 matrix."""

import numpy as np
import pytest

from deepfm.dataset.columns import to_int32_matrix


@pytest.mark.parametrize("num_rows", [0, 1, 2048, 5000])  # chunks have 2048
def test_columns_keep_their_order(num_rows):
    columns = [
        np.arange(num_rows, dtype=dtype) * factor
        for factor, dtype in enumerate((np.int8, np.int64, np.int32))
    ]
    matrix = to_int32_matrix(columns)
    assert (matrix.shape, matrix.dtype) == ((num_rows, 3), np.int32)
    for index, column in enumerate(columns):
        assert np.array_equal(matrix[:, index], column)


def test_floats_keep_their_bits():
    values = np.array([1.5, np.nan, -0.0], np.float32)
    matrix = to_int32_matrix([np.arange(3), values])
    assert np.array_equal(np.ascontiguousarray(matrix[:, 1]).view(np.float32), values, equal_nan=True)


@pytest.mark.parametrize("num_rows", [3, 2048, 4096])
def test_columns_of_unequal_lengths_are_rejected(num_rows):
    with pytest.raises(ValueError, match=rf"of one length, found \[2, {num_rows}\]"):
        to_int32_matrix([np.arange(num_rows), np.arange(2)])
