"""Typed raw columns -> ids, the one implementation: Spark runs it over Arrow batches, the pyfunc directly."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.features.numeric import bucketize
from deepfm.features.vocabulary import Vocabulary
from deepfm.fields import FIRST_KNOWN_ID, MISSING_ID, UNKNOWN_ID


class Encoder:
    """Applies a vocabulary; holds what a lookup needs, so make one and use it for many batches."""

    def __init__(self, vocabulary: Vocabulary):
        self.fields = vocabulary.fields
        self._values = vocabulary.values
        self._ids_by_bucket = {
            field.name: _ids_by_bucket(values)
            for field, values in zip(vocabulary.fields, vocabulary.values, strict=True)
            if field.kind == "count"
        }

    def encode(self, raw: pa.Table) -> list[np.ndarray]:
        """Typed columns (see parse.ParsedRows.raw) of B rows -> F arrays (B,) of int32 ids, by field."""
        return [self._encode_field(index, raw.column(field.name)) for index, field in enumerate(self.fields)]

    def _encode_field(self, index: int, column: pa.ChunkedArray) -> np.ndarray:
        field = self.fields[index]
        if field.kind == "count":
            table = self._ids_by_bucket[field.name]
            buckets = bucketize(pc.fill_null(column, 0))
            ids = table[np.minimum(buckets + 1, len(table) - 1)]
        else:
            places = pc.index_in(column, value_set=self._values[index])
            ids = np.asarray(pc.fill_null(pc.add(places, FIRST_KNOWN_ID), UNKNOWN_ID)).astype(
                np.int32, copy=False
            )
        if column.null_count:
            ids = np.where(np.asarray(column.is_null()), np.int32(MISSING_ID), ids)
        return ids


def _ids_by_bucket(values: pa.Array) -> np.ndarray:
    """(largest known bucket + 3,) int32: the id of bucket b at b + 1; the last entry is for all above."""
    buckets = np.array([int(value) for value in values.to_pylist()], np.int64)
    table = np.full(buckets.max(initial=-1) + 3, UNKNOWN_ID, np.int32)
    table[buckets + 1] = np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + len(buckets))
    return table
