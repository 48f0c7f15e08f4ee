"""Several values an impression: text or arrays -> lists, and the first so many values of each."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Between the values of an array of a Parquet log, which comes as one text: ASCII's unit separator.
ARRAY_SEPARATOR = "\x1f"


def split_lists(texts: pa.Array, separator: str) -> pa.ListArray:
    """(n,) strings -> (n,) lists of the values between separators; null where there is none.

    Empty values are none: two separators side by side are as one.
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
    """The first values of n lists, N in all."""

    rows: np.ndarray  # (N,) which list each is of
    places: np.ndarray  # (N,) its place in that list
    values: pa.Array  # (N,) strings
    num_cut: int  # lists that had more


def first_values(lists: pa.Array | pa.ChunkedArray, max_values: int) -> FirstValues:
    """Of each of n lists of strings the first `max_values`; null has none."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    lengths = _lengths(lists)
    rows = np.repeat(np.arange(len(lists)), lengths)
    places = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    values, num_cut = lists.flatten(), int((lengths > max_values).sum())
    if num_cut:
        first = places < max_values
        rows, places, values = rows[first], places[first], values.filter(pa.array(first))
    return FirstValues(rows, places, values, num_cut)


def _lengths(lists: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
