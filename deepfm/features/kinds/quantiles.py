"""Numbers -> buckets that the training values fill alike: where they are cut, and what falls between cuts.

Values are counted rounded to 4 significant digits: exactly, so that neither partitions nor the order of rows
show, and in bounded memory, 9,000 values a power of ten. What it costs: values that agree in 4 digits are not
cut apart, so those within a relative 5e-4 of their quantile may be on its other side.
"""

import sys

import numpy as np
import pyarrow as pa


def round_significant(numbers: pa.Array) -> pa.Array:
    """(n,) float64 without nulls -> (n,) strings such as 1.235e+03: 4 digits, correctly rounded."""
    # + 0.0: -0.0 is the same number as 0.0.
    return pa.array([f"{number + 0.0:.3e}" for number in numbers.to_pylist()], pa.string())


def fit_boundaries(values: pa.Array, nums: pa.Array, num_buckets: int) -> tuple[float, ...]:
    """Rounded values and how often each occurs -> the ascending numbers between one bucket and the next.

    The j-th cut comes after the first value up to which there are j / `num_buckets` of all, midway to the
    next value. Cuts at the same place are one, so there are fewer buckets where many values are equal. Where
    there are no more values than buckets, each has a bucket of its own.
    """
    numbers = np.array([float(text) for text in values.to_pylist()], np.float64)
    order = np.argsort(numbers)
    # Rounding up the largest float64 gives infinity.
    numbers = np.clip(numbers[order], -sys.float_info.max, sys.float_info.max)
    num_up_to = np.asarray(nums, np.int64)[order].cumsum()
    if len(numbers) <= num_buckets:
        cuts = np.arange(len(numbers) - 1)
    else:
        # Integers, which no rounding moves: num_up_to >= j / num_buckets of all.
        steps = np.arange(1, num_buckets, dtype=np.int64) * num_up_to[-1]
        cuts = np.unique(np.searchsorted(num_up_to * num_buckets, steps))
        cuts = cuts[cuts < len(numbers) - 1]
    return tuple((numbers[cuts] / 2 + numbers[cuts + 1] / 2).tolist())


def quantile_buckets(numbers: np.ndarray, boundaries: tuple[float, ...]) -> np.ndarray:
    """(n,) float64 without nan -> (n,) int32 from 0 to len(boundaries): how many boundaries are below."""
    return np.searchsorted(np.array(boundaries, np.float64), numbers, side="left").astype(np.int32)
