"""Crossed fields: the ids of several fields of an impression -> one id, by a hash.

Ids are hashed rather than raw values: values that are missing, unknown or rare stay so in the cross, mixing
integers is cheap, and nothing is fitted or stored, so training and scoring cannot differ.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from deepfm.kinds.kind import FieldEncoder, FieldKind, FieldSettings, FittedField

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def cross_ids(parts: Sequence[np.ndarray], buckets: int) -> np.ndarray:
    """F' arrays (B,) of int32 ids, in the order of the cross -> (B,) int32 ids from 0 to `buckets` - 1."""
    mixed = np.zeros(len(parts[0]), np.uint64)
    for ids in parts:
        mixed = splitmix64(mixed + ids.astype(np.uint64))
    return (mixed % np.uint64(buckets)).astype(np.int32)


def splitmix64(state: np.ndarray) -> np.ndarray:
    """(n,) uint64 -> (n,) uint64, bijective (Steele, Lea and Flood 2014, fig. 17 with Vigna's constants).

    Trained models depend on the results: another function would assign every weight to other features.
    """
    z = state + _STEP
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


class CrossKind(FieldKind):
    """A combination of several fields; it has no column, its id is a hash of the ids of its parts."""

    name = "cross"
    has_column = False

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _CrossEncoder(field.parts, field.buckets)

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        return field.buckets

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        return [*field.parts, field.buckets]


class _CrossEncoder:
    def __init__(self, parts: tuple[str, ...], buckets: int):
        self._parts, self._buckets = parts, buckets

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        # Crossed fields come last, so their parts are already encoded.
        return [cross_ids([encoded[name] for name in self._parts], self._buckets)]
