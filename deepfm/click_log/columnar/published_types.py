"""Arrow types in which Spark can publish a column of a Parquet log without changing a value."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

_SAME = (
    pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(),
    pa.binary(), pa.date32(),
)  # fmt: skip
#: Spark has no unsigned integers, and lengths of 32 bits: each type becomes the smallest that has its values.
_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),  # a column without any value
}
#: Types of one column in different files: the last of a group has the values of those before it.
_GROUPS = (
    (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.decimal128(20, 0)),
    (pa.float32(), pa.float64()),
)


def published_type(kind: pa.DataType) -> pa.DataType | None:
    """Type that has all values of `kind` and that Spark writes, None if there is none.

    Times of day, durations, maps, structs and decimals of more than 38 digits have none. Timestamps of
    nanoseconds become microseconds: see kept_columns.require_whole_microseconds.
    """
    if pa.types.is_dictionary(kind):
        return published_type(kind.value_type)
    if is_array(kind):
        element = published_type(kind.value_type)
        return None if element is None else pa.list_(element)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if pa.types.is_decimal128(kind):
        return kind if 0 <= kind.scale <= kind.precision else None
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    return kind if kind in _SAME else _WIDER.get(kind)


def common_type(kinds: Iterable[pa.DataType]) -> pa.DataType | None:
    """Type that has all values of several published types, None if there is none."""
    distinct = set(kinds)
    if len(distinct) == 1:
        return distinct.pop()
    for group in _GROUPS:
        if distinct <= set(group):
            return max(distinct, key=group.index)
    return None


def is_array(kind: pa.DataType) -> bool:
    """Whether values are arrays."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def to_published(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """(n,) values -> (n,) equal values of a published type; raise ArrowInvalid if one does not fit."""
    if values.type == kind:
        return values
    if pa.types.is_dictionary(values.type):
        return to_published(values.dictionary_decode(), kind)
    if is_array(values.type):
        return _to_published_arrays(values, kind)
    if pa.types.is_fixed_size_binary(values.type) and not pa.types.is_decimal(values.type):
        # Arrow's cast of a slice ends the process.
        return pa.array(values.to_pylist(), kind)
    return values.cast(kind)


def _to_published_arrays(arrays: pa.Array, kind: pa.ListType) -> pa.Array:
    is_null = np.asarray(arrays.is_null())
    # Not the field `values`, which has elements of null arrays and, in a slice, of other rows.
    lengths = np.asarray(arrays.value_lengths().fill_null(0))
    elements = to_published(arrays.flatten(), kind.value_type)
    offsets = np.append(0, lengths.cumsum()).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=pa.array(is_null)).cast(kind)
