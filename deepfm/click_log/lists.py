"""Fields with several values per impression: text or arrays -> lists, truncated to a maximum length."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Separator of the values of a Parquet array when it is passed as text: the ASCII unit separator.
ARRAY_SEPARATOR = "\x1f"


def split_lists(texts: pa.Array, separator: str) -> pa.ListArray:
    """(n,) strings -> (n,) lists of the values between separators; null if there are none.

    Empty values are dropped: two adjacent separators count as one.
    """
    parts = pc.split_pattern(texts, separator or ARRAY_SEPARATOR)
    lengths = _lengths(parts)
    values = parts.flatten()
    filled = np.asarray(pc.not_equal(values, ""))
    num_filled = np.bincount(np.repeat(np.arange(len(texts)), lengths)[filled], minlength=len(texts))
    offsets = np.append(0, num_filled.cumsum()).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), values.filter(pa.array(filled)), mask=pa.array(num_filled == 0)
    )


@dataclass(frozen=True)
class FirstValues:
    """The first values of n lists, N values in total."""

    rows: np.ndarray  # (N,) index of each value's list
    positions: np.ndarray  # (N,) position of the value in its list
    values: pa.Array  # (N,) strings
    num_truncated: int  # lists with more values


def first_values(lists: pa.Array | pa.ChunkedArray, max_values: int) -> FirstValues:
    """Take the first `max_values` of each of n lists of strings; null has none."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    lengths = _lengths(lists)
    rows = np.repeat(np.arange(len(lists)), lengths)
    positions = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    values, num_truncated = lists.flatten(), int((lengths > max_values).sum())
    if num_truncated:
        first = positions < max_values
        rows, positions, values = rows[first], positions[first], values.filter(pa.array(first))
    return FirstValues(rows, positions, values, num_truncated)


def _lengths(lists: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
