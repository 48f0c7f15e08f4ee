"""Text of a value: the one form in which values of a log are compared and counted, whatever their type.

Datasets, scored days and requests to a served model use it, so that one value has one id everywhere.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

#: Separator of the values of an array when it is written as text: the ASCII unit separator.
ARRAY_SEPARATOR = "\x1f"
_ANY_BYTES = pc.CastOptions(target_type=pa.string(), allow_invalid_utf8=True)
_NULL = pa.scalar(None, pa.string())


def to_texts(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """(n,) values of an Arrow type -> (n,) strings, null if missing.

    True, 1, 1.0 and the decimal 1.00 are "1"; NaN is null. Other floats have the fewest digits that identify
    them in their precision. Times with a zone are written in UTC, fractions of a second without trailing
    zeros. Bytes are taken as UTF-8 and not checked. Arrays are joined by ARRAY_SEPARATOR, without their
    missing values. Raise TypeError for maps, structs and other types without a text.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type
    if pa.types.is_dictionary(kind):
        return to_texts(values.dictionary).take(values.indices)
    for applies, convert in _CONVERSIONS:
        if applies(kind):
            return convert(values)
    raise TypeError(f"values of type {kind} have no text")


def has_text(kind: pa.DataType) -> bool:
    """Whether `to_texts` takes values of this type."""
    if pa.types.is_dictionary(kind):
        return has_text(kind.value_type)
    if _is_array(kind):
        return has_text(kind.value_type) and not _is_array(kind.value_type)
    return any(applies(kind) for applies, _ in _CONVERSIONS)


def _is_array(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_plain(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    is_kind = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return types.is_fixed_size_binary(kind) or any(applies(kind) for applies in is_kind)


def _plain_texts(values: pa.Array) -> pa.Array:
    return values.cast(pa.string())


def _bytes_texts(values: pa.Array) -> pa.Array:
    if pa.types.is_fixed_size_binary(values.type):
        # Arrow's cast of a slice ends the process.
        values = pa.array(values.to_pylist(), pa.binary())
    return values if values.type == pa.string() else pc.cast(values, options=_ANY_BYTES)


def _bool_texts(values: pa.Array) -> pa.Array:
    return values.cast(pa.int8()).cast(pa.string())


def _float_texts(values: pa.Array) -> pa.Array:
    if pa.types.is_float16(values.type):
        # Arrow has no cast from 16 bits; NumPy writes the fewest digits.
        floats = values.to_numpy(zero_copy_only=False)
        return _float_texts(pa.array([float(str(x)) for x in floats], pa.float64()))
    numbers = values.to_numpy(zero_copy_only=False)  # null: NaN
    # Integers in a column with gaps, which pandas stores as floats, are written as integers.
    is_integer = (np.abs(numbers) < 2.0**63) & (numbers == np.floor(numbers))
    integers = pa.array(np.where(is_integer, numbers, 0).astype(np.int64)).cast(pa.string())
    is_number = pa.array(~np.isnan(numbers))
    if is_integer.all():
        return integers
    others = pc.if_else(is_number, values.cast(pa.string()), _NULL)
    return pc.if_else(pa.array(is_integer), integers, others)


def _decimal_texts(values: pa.Array) -> pa.Array:
    texts = values.cast(pa.string())
    if pc.any(pc.match_substring(texts, "E")).as_py():
        plain = [None if value is None else f"{value:f}" for value in values.to_pylist()]
        texts = pa.array(plain, pa.string())
    if not pc.any(pc.match_substring(texts, ".")).as_py():
        return texts
    has_point = pc.match_substring(texts, ".")
    return pc.if_else(has_point, pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), "."), texts)


def _timestamp_texts(values: pa.Array) -> pa.Array:
    # The numbers are in UTC if there is a zone, and as written if there is none.
    local = values.view(pa.int64()).view(pa.timestamp(values.type.unit))
    return _without_trailing_zeros(local.cast(pa.string()))


def with_zone_mark(texts: pa.Array) -> pa.Array:
    """Append Z to the texts of times in UTC; once, also if they have it."""
    return pc.binary_join_element_wise(pc.utf8_rtrim(texts, "Z"), "Z", "")


def _time_texts(values: pa.Array) -> pa.Array:
    return _without_trailing_zeros(values.cast(pa.string()))


def _without_trailing_zeros(texts: pa.Array) -> pa.Array:
    has_fraction = pc.match_substring(texts, ".")
    return pc.if_else(has_fraction, pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), "."), texts)


def _array_texts(lists: pa.Array) -> pa.Array:
    if _is_array(lists.type.value_type):
        raise TypeError(f"values of type {lists.type} have no text")
    if pa.types.is_fixed_size_list(lists.type):
        lists = lists.cast(pa.list_(lists.type.value_type))
    texts = to_texts(lists.flatten())
    rows = np.repeat(np.arange(len(lists)), np.asarray(pc.fill_null(pc.list_value_length(lists), 0)))
    present = np.asarray(texts.is_valid())
    offsets = np.append(0, np.bincount(rows[present], minlength=len(lists)).cumsum()).astype(np.int32)
    joined = pa.ListArray.from_arrays(pa.array(offsets), texts.filter(pa.array(present)))
    return pc.if_else(lists.is_valid(), pc.binary_join(joined, ARRAY_SEPARATOR), _NULL)


_CONVERSIONS: list[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.Array]]] = [
    (_is_bytes, _bytes_texts),
    (_is_plain, _plain_texts),
    (pa.types.is_boolean, _bool_texts),
    (pa.types.is_floating, _float_texts),
    (pa.types.is_decimal, _decimal_texts),
    (pa.types.is_timestamp, _timestamp_texts),
    (pa.types.is_time, _time_texts),
    (_is_array, _array_texts),
]


def texts_of_series(column: pd.Series) -> pa.Array:
    """(n,) pandas values, also of several types in one column -> (n,) strings as by `to_texts`.

    None, NaN, NaT and pd.NA are null. Raise TypeError for values without a text.
    """
    if column.dtype != object:
        return to_texts(pa.Array.from_pandas(column))
    values = list(column)
    texts = np.full(len(values), None, object)
    positions: dict[type, list[int]] = {}
    for position, value in enumerate(values):
        if not _is_missing(value):
            positions.setdefault(type(value), []).append(position)
    for kind, places in positions.items():
        texts[places] = _texts_of_type(kind, [values[place] for place in places])
    return pa.array(texts, pa.string())


def _is_missing(value: object) -> bool:
    # An array, even an empty one, is a value.
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _texts_of_type(kind: type, values: Sequence) -> list[str | None]:
    if issubclass(kind, str):
        return list(values)
    if issubclass(kind, int) and not issubclass(kind, bool):
        return [str(value) for value in values]  # also above 64 bits
    if issubclass(kind, Decimal):
        # Arrow would give them one scale, which may need more digits than it has.
        return [_decimal_text(value) for value in values]
    if issubclass(kind, (list, tuple, np.ndarray, pd.Series)):
        return [_joined(value) for value in values]
    if issubclass(kind, pd.Timestamp):
        # One by one: their zones may differ.
        return [to_texts(pa.array([value])).to_pylist()[0] for value in values]
    try:
        return to_texts(pa.array(values, from_pandas=True)).to_pylist()
    except pa.ArrowException as error:
        raise TypeError(f"values of type {kind.__name__} have no text: {error}") from error


def _decimal_text(value: Decimal) -> str:
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _joined(values: Sequence) -> str:
    texts = texts_of_series(pd.Series(list(values), dtype=object))
    return ARRAY_SEPARATOR.join(text for text in texts.to_pylist() if text is not None)
