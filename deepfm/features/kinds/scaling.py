"""Fields that enter a model by value: their moments on the training days, and what these make of a number."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deepfm.fields import FieldSet, Scale

#: Squares of numbers beyond it would overflow a sum.
_MAX_NUMBER = 1e100
#: Standard deviations from the mean at most: one wild number must not overflow a model's products (float32).
MAX_X = 1e6


@dataclass(frozen=True)
class Moments:
    """Of some numbers: how many, their mean, and the sum of their squared deviations from it."""

    num: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Moments":
        """Of (n,) float64."""
        if not len(numbers):
            return cls()
        mean = float(numbers.mean())
        return cls(len(numbers), mean, float(np.square(numbers - mean).sum()))

    def merged(self, other: "Moments") -> "Moments":
        """Of both together (Chan, Golub and LeVeque 1979): never a difference of two large sums."""
        if not other.num:
            return self
        num, delta = self.num + other.num, other.mean - self.mean
        share = other.num / num
        return Moments(num, self.mean + delta * share, self.m2 + other.m2 + delta**2 * share * self.num)


@dataclass(frozen=True)
class Scaling:
    """x = (number - mean) / std, so that the training values have mean 0 and standard deviation 1."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, moments: Moments) -> "Scaling":
        """Both rounded, so that the order in which partitions are added does not show.

        They are rounded at the 6th digit of the standard deviation, not each at its own: of a mean near 0
        all digits come from that order, and of one far from 0 all values may share the first 6. Beyond the
        mean's 12th digit the deviation is the order's too. A constant field is divided by 1.
        """
        if not moments.num:
            return cls()
        std = math.sqrt(moments.m2 / moments.num)
        digits = f"{max(std, 1e-6 * abs(moments.mean)):.5e}"  # such as 8.16497e-01
        place = 5 - int(digits.partition("e")[2])
        # + 0.0: no -0.0, which is equal to 0.0 but not written as it is.
        return cls(round(moments.mean, place) + 0.0, round(std, place) or 1.0)

    def apply(self, numbers: np.ndarray, scale: Scale) -> np.ndarray:
        """(n,) float64, nan where missing -> (n,) float32 x, nan where missing."""
        x = (on_scale(numbers, scale) - self.mean) / self.std
        return np.clip(x, -MAX_X, MAX_X).astype(np.float32)

    def number_at(self, x: float, scale: Scale) -> float:
        """The number that `apply` makes x of."""
        number = self.mean + self.std * x
        return float(np.sign(number) * np.expm1(np.abs(number))) if scale == "log" else number


def on_scale(numbers: np.ndarray, scale: Scale) -> np.ndarray:
    """(n,) float64 -> (n,) float64, what is then standardised: themselves, or sign(x) log(1 + |x|)."""
    if scale == "log":
        return np.sign(numbers) * np.log1p(np.abs(numbers))
    return np.clip(numbers, -_MAX_NUMBER, _MAX_NUMBER)


class FieldMoments:
    """Moments of every field that enters by value, batch by batch, on the field's scale."""

    def __init__(self, fields: FieldSet):
        self._fields = fields
        self.by_index = {at: Moments() for at, is_value in enumerate(fields.are_values) if is_value}

    def add(self, raw: pa.Table) -> None:
        """Take in the typed columns of a batch (see parse.ParsedRows.raw); missing values do not count."""
        for at, moments in self.by_index.items():
            field = self._fields[at]
            numbers = raw.column(field.name).drop_null().to_numpy()
            self.by_index[at] = moments.merged(Moments.of(on_scale(numbers, field.scale)))
