"""Fields with several values per impression: text or arrays -> lists, truncated to a maximum length."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.category import DistinctIds
from deepfm.kinds.dictionary import dictionary_encode
from deepfm.kinds.kind import (
    ColumnType,
    FieldEncoder,
    FieldKind,
    FieldSettings,
    FittedField,
)
from deepfm.kinds.literals import MISSING_ID, PADDING
from deepfm.value_text import ARRAY_SEPARATOR


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


class ListKind(FieldKind):
    """Several categories per impression, whose weights and embeddings are pooled."""

    name = "list"
    keys = ("min_count", "max_size", "hash_buckets", "unknown_buckets", "max_values", "separator", "pooling")
    required_keys: ClassVar = {"max_values": "set the maximum number of values per impression, such as 5"}
    uses_counts = has_vocabulary = is_list = is_text = True

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        return split_lists(strings, field.separator), None

    def countable_values(self, column: pa.ChunkedArray, field: FieldSettings) -> tuple[pa.Array, int]:
        first = first_values(column, field.max_values)
        return first.values, first.num_truncated

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _ListEncoder(field.name, field.max_values, DistinctIds(field, fitted))

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        return field.first_known_id + (field.hash_buckets or num_known)

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        buckets = (field.unknown_buckets, field.hash_buckets)
        return [field.separator, field.max_values, field.pooling, *buckets]

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        def join(values: list[str]) -> str | list[str]:
            return field.separator.join(values) if field.separator else values

        known = fitted.values.slice(0, 2).to_pylist()
        return [join(known), join(known[:1])], join(["never seen"])

    def column_type(self, field: FieldSettings, known: pa.Array) -> ColumnType:
        return "string" if field.separator else "array"


class _ListEncoder:
    def __init__(self, name: str, max_values: int, distinct_ids: DistinctIds):
        self._name, self._max_values, self._distinct_ids = name, max_values, distinct_ids

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        """One array per slot, filled with PADDING after the last value."""
        column = raw.column(self._name)
        first = first_values(column, self._max_values)
        ids = np.full((self._max_values, len(column)), PADDING, np.int32)
        ids[0] = MISSING_ID  # stays for lists without values
        texts = dictionary_encode(first.values)
        ids[first.positions, first.rows] = self._distinct_ids(texts.dictionary)[np.asarray(texts.indices)]
        return list(ids)
