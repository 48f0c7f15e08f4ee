"""Encoded columns as one int32 matrix, without PyTorch, which takes a Spark worker seconds to import."""

from collections.abc import Sequence

import numpy as np

#: Rows of all columns that fit into a core's L2 cache: each column writes to all of these rows.
_ROWS_PER_CHUNK = 2048


def to_int32_matrix(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Columns (n,) of integers or float32 -> (n, number of columns) int32; float32 keeps its bits.

    Raise ValueError if their lengths differ.
    """
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"expected columns of one length, found {sorted({len(c) for c in columns})}")
    bits = [np.ascontiguousarray(c).view(np.int32) if c.dtype == np.float32 else c for c in columns]
    matrix = np.empty((len(bits[0]), len(bits)), np.int32)
    for start in range(0, len(matrix), _ROWS_PER_CHUNK):
        rows = slice(start, start + _ROWS_PER_CHUNK)
        np.stack([column[rows] for column in bits], axis=1, out=matrix[rows], casting="unsafe")
    return matrix
