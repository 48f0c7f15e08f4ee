"""Quantile buckets: boundaries that training values fill evenly, fitted to counts of rounded values."""

import math
import sys
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.kinds.quantile import fit_boundaries, quantile_buckets, round_significant


def texts(*numbers):
    return round_significant(pa.array(numbers, pa.float64())).to_pylist()


def boundaries(numbers, num_buckets):
    """Fit boundaries to numbers, which may repeat."""
    value_counts = round_significant(pa.array(numbers, pa.float64())).value_counts()
    return fit_boundaries(value_counts.field("values"), value_counts.field("counts"), num_buckets)


def buckets(numbers, cuts):
    return quantile_buckets(np.array(numbers, np.float64), cuts).tolist()


def test_values_are_rounded_to_4_digits():
    assert texts(0.5, 1234.5, 1234.6, -0.00012345) == ["5.000e-01", "1.234e+03", "1.235e+03", "-1.234e-04"]
    assert texts(0.0, -0.0) == ["0.000e+00"] * 2
    assert texts() == []


def test_each_bucket_has_its_share_of_the_training_values():
    assert boundaries(range(1, 9), 4) == (2.5, 4.5, 6.5)
    assert np.bincount(buckets(range(1, 9), boundaries(range(1, 9), 4))).tolist() == [2, 2, 2, 2]
    # A third of 10 is not an integer: the next value is taken.
    assert boundaries(range(10), 3) == (3.5, 6.5)


def test_repeated_values_count_several_times():
    assert boundaries([1] * 6 + [2, 3, 4, 5, 6, 7], 2) == (1.5,)
    assert boundaries([1] * 5 + [2, 3, 4, 5, 6, 7, 8], 2) == (2.5,)


def test_equal_boundaries_are_merged():
    assert boundaries([0] * 90 + list(range(1, 11)), 10) == (0.5,)
    assert boundaries([9] * 90 + list(range(-1, 9)), 5) == ()


def test_few_values_have_a_bucket_each():
    assert boundaries([0] + [7] * 99, 10) == (3.5,)
    assert boundaries([1, 2, 4], 3) == (1.5, 3.0)
    assert boundaries([5, 5], 3) == boundaries([], 3) == ()


def test_a_number_on_a_boundary_belongs_to_the_lower_bucket():
    assert buckets([-9, 1.5, 1.51, 3.0, 99], (1.5, 3.0)) == [0, 0, 1, 1, 2]
    assert buckets([-9, 99], ()) == [0, 0]
    assert quantile_buckets(np.array([]), (1.0,)).dtype == np.int32


def test_a_training_value_falls_into_the_bucket_it_was_counted_for():
    # Unrounded, 123,549 is above 123,500, the value it was counted as.
    cuts = boundaries([123_549] * 3 + [200_000] * 3, 2)
    assert buckets([123_549, 200_000], cuts) == [0, 1]


def test_the_largest_numbers_have_finite_boundaries():
    largest = sys.float_info.max
    cuts = boundaries([-largest, 0.0, largest], 3)
    assert all(map(math.isfinite, cuts))
    assert buckets([-largest, 0.0, largest], cuts) == [0, 1, 2]


@pytest.mark.parametrize("num_buckets", [2, 7, 100])
def test_bucket_sizes_differ_only_by_values_that_rounding_makes_equal(num_buckets):
    numbers = np.random.default_rng(1).lognormal(sigma=3, size=20_000)
    counts = np.bincount(buckets(numbers, boundaries(numbers, num_buckets)))
    assert len(counts) == num_buckets
    # At most about 3 of them agree in 4 digits, at either end of a bucket.
    assert np.abs(counts - 20_000 / num_buckets).max() < 10


@given(st.lists(st.integers(-5, 5), min_size=1), st.integers(2, 5), st.randoms())
def test_boundaries_follow_the_definition_whatever_the_order(numbers, num_buckets, random):
    values = sorted(set(numbers))
    cut_after = {
        next(v for v in values if sum(n <= v for n in numbers) * num_buckets >= j * len(numbers))
        for j in range(1, num_buckets)
    }
    if len(values) <= num_buckets:
        cut_after = set(values)
    expected = [(a + b) / 2 for a, b in pairwise(values) if a in cut_after]
    random.shuffle(numbers)
    assert list(boundaries(numbers, num_buckets)) == expected
