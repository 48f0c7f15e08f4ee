"""Quantile buckets: boundaries fitted so that training values fill the buckets evenly, and their use.

Values are counted after rounding to 4 significant digits. Counts are exact, so the result does not depend on
partitions or row order, and memory is bounded: 9,000 values per power of ten. The cost: values that agree in
4 digits are not separated, so values within a relative 5e-4 of their quantile may be in the next bucket.
"""

import sys

import numpy as np
import pyarrow as pa


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
