"""Categories: any text, with ids from a vocabulary or by hash."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.hashing import text_buckets
from deepfm.kinds.kind import (
    ColumnType,
    FieldEncoder,
    FieldKind,
    FieldSettings,
    FittedField,
    encode_dictionary,
    take_distinct,
)
from deepfm.kinds.literals import MISSING_ID, UNKNOWN_ID
from deepfm.kinds.value_index import ValueIndex

#: An integer whose text survives conversion to any number type; a float keeps 15 digits.
_PLAIN_INTEGER = r"^(0|-?[1-9][0-9]{0,14})$"


class CategoryKind(FieldKind):
    """Any text; a value gets an id from the vocabulary or, with hash_buckets, by its hash."""

    name = "category"
    keys = ("min_count", "max_size", "hash_buckets", "unknown_buckets")
    uses_counts = has_vocabulary = can_be_crossed = is_text = True

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        return encode_dictionary(strings), None

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _CategoryEncoder(field.name, DistinctIds(field, fitted))

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        return field.first_known_id + (field.hash_buckets or num_known)

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        if field.unknown_buckets != 1:
            return ["unknown", field.unknown_buckets]
        return ["hash", field.hash_buckets] if field.hash_buckets else []

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        return fitted.values.slice(0, 2).to_pylist(), "never seen"

    def column_type(self, field: FieldSettings, known: pa.Array) -> ColumnType:
        # Ids such as 4711 may arrive as integers, or as floats in a column with gaps. If 007 is a known
        # value, a column of numbers cannot distinguish it from 7, so numbers are refused.
        return "any" if _are_integers(known) else "string"


class DistinctIds:
    """Ids of distinct texts, by a vocabulary or by hash."""

    def __init__(self, field: FieldSettings, fitted: FittedField):
        self._first_known_id, self._hash_buckets = field.first_known_id, field.hash_buckets
        self._unknown_buckets, self._subset_ids = field.unknown_buckets, fitted.subset_ids
        self._index = ValueIndex(fitted.values)

    def __call__(self, texts: pa.Array) -> np.ndarray:
        """(m,) strings -> (m,) int32; arbitrary for null."""
        if self._hash_buckets:
            return self._first_known_id + text_buckets(texts, self._hash_buckets)
        positions = self._index.positions(texts)
        if self._subset_ids is not None:
            known_ids = pa.array(self._subset_ids).take(positions)
        else:
            known_ids = pc.add(positions, self._first_known_id)
        ids = np.array(pc.fill_null(known_ids, UNKNOWN_ID), np.int32)
        if self._unknown_buckets > 1:
            unknown = positions.is_null()
            ids[np.asarray(unknown)] += text_buckets(texts.filter(unknown), self._unknown_buckets)
        return ids


class _CategoryEncoder:
    def __init__(self, name: str, distinct_ids: Callable[[pa.Array], np.ndarray]):
        self._name, self._distinct_ids = name, distinct_ids

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [take_distinct(raw.column(self._name), self._distinct_ids, MISSING_ID)]


def _are_integers(values: pa.Array) -> bool:
    return len(values) > 0 and pc.all(pc.match_substring_regex(values, _PLAIN_INTEGER)).as_py()
