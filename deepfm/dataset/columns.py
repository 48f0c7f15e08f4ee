"""Encoded columns as one array: no torch here, which a Spark worker would take seconds to load."""

from collections.abc import Sequence

import numpy as np

#: Rows of all columns that a core's second cache holds: every column writes into each of them.
_ROWS_AT_ONCE = 2048


def to_int32_matrix(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Columns (n,) of integers or float32 -> (n, number of columns) int32; float32 as its bits.

    ValueError where their lengths differ.
    """
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"expected columns of one length, found {sorted({len(c) for c in columns})}")
    bits = [np.ascontiguousarray(c).view(np.int32) if c.dtype == np.float32 else c for c in columns]
    block = np.empty((len(bits[0]), len(bits)), np.int32)
    for start in range(0, len(block), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        np.stack([column[rows] for column in bits], axis=1, out=block[rows], casting="unsafe")
    return block
