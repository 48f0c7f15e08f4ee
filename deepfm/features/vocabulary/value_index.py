"""Where each of some texts stands among known ones, found again and again."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

#: From so many values on an index is quicker than Arrow's lookup, which makes its table anew for every batch.
_WORTH_AN_INDEX = 50_000
#: So many times more known values than texts, that is: of many texts at once Arrow's is the quicker.
_WORTH_A_SEARCH = 5
_HASHED = 1 << 20


class ValueIndex:
    """Places of values; of many by their 64-bit hash, sorted once: 12 bytes a value beside the texts."""

    def __init__(self, values: pa.Array):
        self._values, self._is_searched = values, False
        if len(values) < _WORTH_AN_INDEX:
            return
        hashes = np.concatenate(
            [_hashes(values.slice(start, _HASHED)) for start in range(0, max(len(values), 1), _HASHED)]
        )
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._sorted = hashes[self._order]
        # One hash of two values finds one of them: then, about never, Arrow looks all of them up.
        self._is_searched = not (self._sorted[1:] == self._sorted[:-1]).any()

    def places(self, texts: pa.Array) -> pa.Array:
        """(m,) strings -> (m,) int32, null for those that are not there; as pyarrow.compute.index_in."""
        if not self._is_searched or len(self._values) <= _WORTH_A_SEARCH * len(texts):
            return pc.index_in(texts, value_set=self._values)
        at = np.minimum(np.searchsorted(self._sorted, _hashes(texts)), len(self._sorted) - 1)
        places = pa.array(self._order[at])
        # The text decides: another one may have the same hash.
        is_same = pc.fill_null(pc.equal(self._values.take(places), texts), False)
        return pc.if_else(is_same, places, pa.scalar(None, pa.int32()))


def _hashes(texts: pa.Array) -> np.ndarray:
    """(m,) uint64 of SipHash; only this process sees them."""
    objects = pc.fill_null(texts, "").to_numpy(zero_copy_only=False)
    return pd.util.hash_array(objects, categorize=False)
