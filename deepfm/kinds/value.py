"""Values: numbers that enter the model as x, standardized on the training days."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.kind import (
    FieldEncoder,
    FieldKind,
    FieldSettings,
    FittedField,
    empty_to_null,
)
from deepfm.kinds.literals import PRESENT_ID, Scale
from deepfm.kinds.numbers import parse_decimals
from deepfm.kinds.scaling import Scaling

#: What a number must be; see FieldKind.expected.
FINITE_NUMBERS = "finite numbers"


class ValueKind(FieldKind):
    """A number x that multiplies the weight and the embedding of its field."""

    name = "value"
    keys = ("scale",)
    is_value = True
    rejection = "value_not_a_number"

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        return parse_decimals(empty_to_null(strings))

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _ValueEncoder(field.name, _scaling_of(fitted), field.scale)

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        return PRESENT_ID + 1

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        scaling = _scaling_of(fitted)
        return [field.scale, repr(scaling.mean), repr(scaling.std)]

    def expected(self, field: FieldSettings) -> str:
        return FINITE_NUMBERS

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        scaling = _scaling_of(fitted)
        *known, unusual = (scaling.inverse(x, field.scale) for x in (0, 1, 3))
        return known, unusual


def _scaling_of(fitted: FittedField) -> Scaling:
    assert fitted.scaling is not None
    return fitted.scaling


class _ValueEncoder:
    def __init__(self, name: str, scaling: Scaling, scale: Scale):
        self._name, self._scaling, self._scale = name, scaling, scale

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        """float32: the scaled value, NaN if missing."""
        numbers = pc.fill_null(raw.column(self._name), np.nan).to_numpy()
        return [self._scaling.apply(numbers, self._scale)]
