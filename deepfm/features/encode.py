"""Encoder: typed raw columns -> ids and values. Used by Spark tasks and the MLflow model."""

import numpy as np
import pyarrow as pa

from deepfm.features.vocabulary.vocabulary import Vocabulary, VocabularySubset


class Encoder:
    """Applies a vocabulary. Builds lookup tables, so create it once and use it for many batches."""

    def __init__(self, vocabulary: Vocabulary | VocabularySubset):
        self.fields = vocabulary.fields
        self._encoders = [
            (field.slots, field.behaviour.encoder(field, vocabulary.fitted(index)))
            for index, field in enumerate(vocabulary.fields)
        ]

    def encode(self, raw: pa.Table) -> list[np.ndarray]:
        """Typed columns (see parse.ParsedRows.raw) of B rows -> S arrays (B,), in the order of fields.slots.

        Value fields give float32: the scaled value, or NaN if missing. All others give int32 ids; list slots
        are filled with PADDING after the last value.
        """
        encoded: dict[str, np.ndarray] = {}  # by slot
        for slots, encode_field in self._encoders:
            encoded.update(zip(slots, encode_field(raw, encoded), strict=True))
        return list(encoded.values())
