"""Values: numbers that enter the model as x, standardized on the training days."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.kind import FieldEncoder, FieldKind, empty_to_null, numbers_from_pandas
from deepfm.kinds.literals import PRESENT_ID, Scale
from deepfm.kinds.numbers import parse_decimals
from deepfm.kinds.scaling import Scaling


class ValueKind(FieldKind):
    """A number x that multiplies the weight and the embedding of its field."""

    name = "value"
    keys = ("scale",)
    is_value = True
    rejection = "value_not_a_number"

    def parse(self, strings, field):
        return parse_decimals(empty_to_null(strings))

    def encoder(self, field, fitted) -> FieldEncoder:
        return _ValueEncoder(field.name, fitted.scaling, field.scale)

    def num_ids(self, field, num_known, boundaries):
        return PRESENT_ID + 1

    def digest_settings(self, field, fitted):
        return [field.scale, repr(fitted.scaling.mean), repr(fitted.scaling.std)]

    def from_pandas(self, column, field):
        return finite_from_pandas(column)

    def example(self, field, fitted):
        *known, unusual = (fitted.scaling.inverse(x, field.scale) for x in (0, 1, 3))
        return known, unusual


class _ValueEncoder:
    def __init__(self, name: str, scaling: Scaling, scale: Scale):
        self._name, self._scaling, self._scale = name, scaling, scale

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        """float32: the scaled value, NaN if missing."""
        numbers = pc.fill_null(raw.column(self._name), np.nan).to_numpy()
        return [self._scaling.apply(numbers, self._scale)]


def finite_from_pandas(column: pd.Series) -> pa.Array:
    """(n,) float64, null if missing; ValueError for an infinite number."""
    numbers, missing = numbers_from_pandas(column)
    if np.isinf(numbers).any():
        raise ValueError(f"{column.name}: expected finite numbers, found an infinite one")
    return pa.array(numbers, mask=missing)
