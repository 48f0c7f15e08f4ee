"""Encoded columns as one array: no torch here, which a Spark worker would take seconds to load."""

from collections.abc import Sequence

import numpy as np


def stacked(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Columns (n,) of integers or float32 -> (n, number of columns) int32; float32 as its bits."""
    bits = [np.ascontiguousarray(c).view(np.int32) if c.dtype == np.float32 else c for c in columns]
    return np.stack(bits, axis=1).astype(np.int32, copy=False)
