"""Standardization of value fields by their mean and standard deviation on the training days."""

import math
from dataclasses import dataclass

import numpy as np

from deepfm.kinds.literals import Scale

#: Squares of larger numbers would overflow a sum.
_MAX_NUMBER = 1e100
#: Maximum standard deviations from the mean: an outlier must not overflow a model's products (float32).
MAX_X = 1e6


@dataclass(frozen=True)
class Moments:
    """Count, mean, and sum of squared deviations from the mean."""

    num: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def from_array(cls, numbers: np.ndarray, weights: np.ndarray | None = None) -> "Moments":
        """Compute the moments of (n,) float64; each counts as often as its (n,) integer weight, or once."""
        if not len(numbers):
            return cls()
        if weights is not None:
            weighted_mean = float(np.average(numbers, weights=weights))
            m2 = float((weights * np.square(numbers - weighted_mean)).sum())
            return cls(int(weights.sum()), weighted_mean, m2)
        mean = float(numbers.mean())
        return cls(len(numbers), mean, float(np.square(numbers - mean).sum()))

    def merge(self, other: "Moments") -> "Moments":
        """Combine both (Chan, Golub and LeVeque 1979), without a difference of two large sums."""
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
        """Compute mean and standard deviation, rounded so that the merge order of partitions has no effect.

        Both are rounded at the 6th digit of the standard deviation: for a mean near 0 all digits are rounding
        errors, and for a mean far from 0 all values may share the first 6 digits. Digits of the deviation
        beyond the mean's 12th digit are rounding errors too. The divisor of a constant field is 1.
        """
        if not moments.num:
            return cls()
        std = math.sqrt(moments.m2 / moments.num)
        digits = f"{max(std, 1e-6 * abs(moments.mean)):.5e}"  # such as 8.16497e-01
        decimals = 5 - int(digits.partition("e")[2])
        # + 0.0 turns -0.0 into 0.0: equal, but with another text form.
        return cls(round(moments.mean, decimals) + 0.0, round(std, decimals) or 1.0)

    def apply(self, numbers: np.ndarray, scale: Scale) -> np.ndarray:
        """(n,) float64, NaN if missing -> (n,) float32 x, NaN if missing."""
        x = (apply_scale(numbers, scale) - self.mean) / self.std
        return np.clip(x, -MAX_X, MAX_X).astype(np.float32)

    def inverse(self, x: float, scale: Scale) -> float:
        """Compute the number that `apply` maps to x."""
        number = self.mean + self.std * x
        return float(np.sign(number) * np.expm1(np.abs(number))) if scale == "log" else number


def apply_scale(numbers: np.ndarray, scale: Scale) -> np.ndarray:
    """(n,) float64 -> (n,) float64 to standardize: unchanged, or sign(x) log(1 + |x|)."""
    if scale == "log":
        return np.sign(numbers) * np.log1p(np.abs(numbers))
    return np.clip(numbers, -_MAX_NUMBER, _MAX_NUMBER)
