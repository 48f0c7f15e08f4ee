"""Encoder: typed raw columns -> ids and values. Used by Spark tasks and the MLflow model."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.lists import first_values
from deepfm.click_log.times import time_values
from deepfm.features.dictionary import dictionary_encode
from deepfm.features.kinds.count_buckets import count_buckets
from deepfm.features.kinds.crossing import cross_ids
from deepfm.features.kinds.hashing import text_buckets
from deepfm.features.kinds.quantiles import quantile_buckets
from deepfm.features.vocabulary.value_index import ValueIndex
from deepfm.features.vocabulary.vocabulary import Vocabulary, VocabularySubset
from deepfm.fields import MISSING_ID, PADDING, UNKNOWN_ID, Field


class Encoder:
    """Applies a vocabulary. Builds lookup tables, so create it once and use it for many batches."""

    def __init__(self, vocabulary: Vocabulary | VocabularySubset):
        self.fields = vocabulary.fields
        known = zip(vocabulary.fields.names, vocabulary.values, strict=True)
        self._known = {name: ValueIndex(values) for name, values in known}
        self._subset_ids = vocabulary.ids if isinstance(vocabulary, VocabularySubset) else {}
        self._scalings, self._boundaries = vocabulary.scalings, vocabulary.boundaries
        self._ids_by_bucket = {
            field.name: _ids_by_bucket(values, field.first_known_id)
            for field, values in zip(vocabulary.fields, vocabulary.values, strict=True)
            if field.kind == "count"
        }

    def encode(self, raw: pa.Table) -> list[np.ndarray]:
        """Typed columns (see parse.ParsedRows.raw) of B rows -> S arrays (B,), in the order of fields.slots.

        Value fields give float32: the scaled value, or NaN if missing. All others give int32 ids; list slots
        are filled with PADDING after the last value.
        """
        encoded: dict[str, np.ndarray] = {}  # by slot
        for field in self.fields:
            if field.kind == "cross":
                # Crossed fields come last, so their parts are already encoded.
                encoded[field.name] = cross_ids([encoded[name] for name in field.parts], field.buckets)
            elif field.kind == "list":
                slots = self._list_ids(field, raw.column(field.name))
                encoded.update(zip(field.slots, slots, strict=True))
            elif field.kind == "value":
                encoded[field.name] = self._scale(field, raw.column(field.name))
            else:
                encoded[field.name] = self._ids(field, raw.column(field.name))
        return list(encoded.values())

    def _scale(self, field: Field, column: pa.ChunkedArray) -> np.ndarray:
        numbers = pc.fill_null(column, np.nan).to_numpy()
        return self._scalings[field.name].apply(numbers, field.scale)

    def _ids(self, field: Field, column: pa.ChunkedArray) -> np.ndarray:
        if field.kind in ("count", "category"):
            encoded = dictionary_encode(column)
            # The last entry is for missing values.
            ids = np.append(self._distinct_ids(field, encoded.dictionary), np.int32(MISSING_ID))
            return ids[np.asarray(encoded.indices.fill_null(len(ids) - 1))]
        if field.kind == "quantile":
            numbers = pc.fill_null(column, 0.0).to_numpy()
            ids = field.first_known_id + quantile_buckets(numbers, self._boundaries[field.name])
        else:
            ids = field.first_known_id + time_values(pc.fill_null(column, 0).to_numpy(), field.name)
        if column.null_count:
            ids = np.where(np.asarray(column.is_null()), np.int32(MISSING_ID), ids)
        return ids

    def _distinct_ids(self, field: Field, column: pa.Array) -> np.ndarray:
        """(m,) counts or strings -> (m,) int32; arbitrary for null."""
        if field.kind == "count":
            table = self._ids_by_bucket[field.name]
            buckets = count_buckets(pc.fill_null(column, 0))
            return table[np.minimum(buckets + 1, len(table) - 1)]
        if field.hash_buckets:
            return field.first_known_id + text_buckets(column, field.hash_buckets)
        positions = self._known[field.name].positions(column)
        if field.name in self._subset_ids:
            known_ids = pa.array(self._subset_ids[field.name]).take(positions)
        else:
            known_ids = pc.add(positions, field.first_known_id)
        ids = np.array(pc.fill_null(known_ids, UNKNOWN_ID), np.int32)
        if field.unknown_buckets > 1:
            unknown = positions.is_null()
            ids[np.asarray(unknown)] += text_buckets(column.filter(unknown), field.unknown_buckets)
        return ids

    def _list_ids(self, field: Field, column: pa.ChunkedArray) -> np.ndarray:
        """(B,) lists of strings -> (max_values, B) int32."""
        first = first_values(column, field.max_values)
        ids = np.full((field.max_values, len(column)), PADDING, np.int32)
        ids[0] = MISSING_ID  # stays for lists without values
        encoded = dictionary_encode(first.values)
        ids[first.positions, first.rows] = self._distinct_ids(field, encoded.dictionary)[
            np.asarray(encoded.indices)
        ]
        return ids


def _ids_by_bucket(values: pa.Array, first_known_id: int) -> np.ndarray:
    """(largest known bucket + 3,) int32: entry b + 1 is the id of bucket b, the last that of larger ones."""
    buckets = np.array([int(value) for value in values.to_pylist()], np.int64)
    table = np.full(buckets.max(initial=-1) + 3, UNKNOWN_ID, np.int32)
    table[buckets + 1] = first_known_id + np.arange(len(buckets))
    return table
