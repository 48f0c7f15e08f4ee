"""Repeated lookup of texts among many known values."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

#: Minimum number of values for an index; below, Arrow's lookup is faster although it hashes them per batch.
_MIN_INDEXED_VALUES = 50_000
#: Minimum ratio of known values to texts for the index; for many texts at once Arrow's lookup is faster.
_MIN_VALUES_PER_TEXT = 5
_HASH_BATCH = 1 << 20


class ValueIndex:
    """Positions of values. Many values are indexed by sorted 64-bit hashes, in 12 bytes per value."""

    def __init__(self, values: pa.Array):
        self._values, self._is_searched = values, False
        if len(values) < _MIN_INDEXED_VALUES:
            return
        hashes = np.concatenate(
            [
                _hashes(values.slice(start, _HASH_BATCH))
                for start in range(0, max(len(values), 1), _HASH_BATCH)
            ]
        )
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._sorted = hashes[self._order]
        # If two values have the same hash, which almost never happens, use Arrow's lookup instead.
        self._is_searched = not (self._sorted[1:] == self._sorted[:-1]).any()

    def positions(self, texts: pa.Array) -> pa.Array:
        """(m,) strings -> (m,) int32, null for unknown texts, like pyarrow.compute.index_in."""
        if not self._is_searched or len(self._values) <= _MIN_VALUES_PER_TEXT * len(texts):
            return pc.index_in(texts, value_set=self._values)
        ranks = np.minimum(np.searchsorted(self._sorted, _hashes(texts)), len(self._sorted) - 1)
        positions = pa.array(self._order[ranks])
        # Compare the texts: an unknown text may have the hash of a known one.
        is_same = pc.fill_null(pc.equal(self._values.take(positions), texts), False)
        return pc.if_else(is_same, positions, pa.scalar(None, pa.int32()))


def _hashes(texts: pa.Array) -> np.ndarray:
    """(m,) uint64 SipHash values; only used within this process."""
    objects = pc.fill_null(texts, "").to_numpy(zero_copy_only=False)
    return pd.util.hash_array(objects, categorize=False)
