"""Quantile buckets: boundaries fitted so that training values fill the buckets evenly, and their use.

Values are counted after rounding to 4 significant digits. Counts are exact, so the result does not depend on
partitions or row order, and memory is bounded: 9,000 values per power of ten. The cost: values that agree in
4 digits are not separated, so values within a relative 5e-4 of their quantile may be in the next bucket.
"""

import sys
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.kind import FieldEncoder, FieldKind, FieldSettings, FittedField, empty_to_null
from deepfm.kinds.literals import MISSING_ID
from deepfm.kinds.numbers import parse_decimals
from deepfm.kinds.value import FINITE_NUMBERS


def round_significant(numbers: pa.Array) -> pa.Array:
    """(n,) float64 without nulls -> (n,) strings such as 1.235e+03: 4 digits, correctly rounded."""
    # + 0.0 turns -0.0 into 0.0.
    return pa.array([f"{number + 0.0:.3e}" for number in numbers.to_pylist()], pa.string())


def fit_boundaries(values: pa.Array, counts: pa.Array, num_buckets: int) -> tuple[float, ...]:
    """Fit the ascending boundaries between buckets to rounded values and their counts.

    Boundary j follows the first value at or below which there are j / `num_buckets` of all values, midway to
    the next value. Equal boundaries are merged, so there are fewer buckets if many values are equal. If there
    are no more values than buckets, each value has its bucket.
    """
    numbers = np.array([float(text) for text in values.to_pylist()], np.float64)
    order = np.argsort(numbers)
    # Rounding up the largest float64 gives infinity.
    numbers = np.clip(numbers[order], -sys.float_info.max, sys.float_info.max)
    num_up_to = np.asarray(counts, np.int64)[order].cumsum()
    if len(numbers) <= num_buckets:
        cuts = np.arange(len(numbers) - 1)
    else:
        # In integers, without rounding errors: num_up_to >= j / num_buckets of all.
        steps = np.arange(1, num_buckets, dtype=np.int64) * num_up_to[-1]
        cuts = np.unique(np.searchsorted(num_up_to * num_buckets, steps))
        cuts = cuts[cuts < len(numbers) - 1]
    return tuple((numbers[cuts] / 2 + numbers[cuts + 1] / 2).tolist())


def quantile_buckets(numbers: np.ndarray, boundaries: tuple[float, ...]) -> np.ndarray:
    """(n,) float64 without NaN -> (n,) int32 from 0 to len(boundaries): number of boundaries below."""
    return np.searchsorted(np.array(boundaries, np.float64), numbers, side="left").astype(np.int32)


class QuantileKind(FieldKind):
    """A number, in buckets that training values fill evenly."""

    name = "quantile"
    keys = ("quantile_buckets",)
    required_keys: ClassVar = {"quantile_buckets": "set the number of buckets, such as 50"}
    uses_counts = is_bucketed = can_be_crossed = True
    rejection = "value_not_a_number"

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        return parse_decimals(empty_to_null(strings))

    def count_texts(self, distinct: pa.Array, counts: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        return round_significant(distinct), counts

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _QuantileEncoder(field.name, fitted.boundaries, field.first_known_id)

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        return field.first_known_id + len(boundaries) + 1

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        return [*map(repr, fitted.boundaries), "end"]

    def expected(self, field: FieldSettings) -> str:
        return FINITE_NUMBERS

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        return list(fitted.boundaries[:2]), float(2**62)

    def value_name(self, field: FieldSettings, position: int, fitted: FittedField) -> str:
        boundaries = fitted.boundaries
        if not boundaries:
            return "all"
        if position == len(boundaries):
            return f"above {boundaries[-1]:.6g}"
        upper = f"to {boundaries[position]:.6g}"
        return f"{boundaries[position - 1]:.6g} {upper}" if position else f"up {upper}"


class _QuantileEncoder:
    def __init__(self, name: str, boundaries: tuple[float, ...], first_known_id: int):
        self._name, self._boundaries, self._first_known_id = name, boundaries, first_known_id

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        column = raw.column(self._name)
        numbers = pc.fill_null(column, 0.0).to_numpy()
        ids = self._first_known_id + quantile_buckets(numbers, self._boundaries)
        return [
            np.where(np.asarray(column.is_null()), np.int32(MISSING_ID), ids) if column.null_count else ids
        ]
