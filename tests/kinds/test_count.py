"""Bucketing of counts, against the definition floor(log(x)^2)."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.kinds.count import bucket_start, count_buckets

INT64 = st.integers(-(2**63), 2**63 - 1)


def bucket(count: int) -> int:
    return int(count_buckets(pa.array([count], pa.int64()))[0])


def test_small_counts_have_a_bucket_each():
    assert [bucket(x) for x in (0, 1, 2)] == [0, 1, 2]


def test_all_negative_counts_share_one_bucket():
    assert {bucket(x) for x in (-1, -2, -1000, -(2**63))} == {-1}


def test_larger_counts_fall_into_the_floor_of_their_squared_logarithm():
    counts = range(3, 20_000)
    assert count_buckets(pa.array(counts)).tolist() == [math.floor(math.log(x) ** 2) + 2 for x in counts]


def test_the_largest_count_falls_into_the_last_bucket():
    assert bucket(2**63 - 1) == math.floor(math.log(2**63 - 1) ** 2) + 2 == 1908


@given(INT64)
def test_every_int64_falls_into_its_bucket(x):
    with localcontext() as context:
        context.prec = 50
        log_squared = Decimal(x).ln() ** 2 if x > 0 else Decimal(0)
    expected = int(log_squared) + 2 if x > 2 else max(x, -1)
    assert bucket(x) == expected


@given(st.lists(INT64, max_size=20))
def test_a_larger_count_never_falls_into_a_smaller_bucket(counts):
    buckets = count_buckets(pa.array(sorted(counts), pa.int64()))
    assert (np.diff(buckets) >= 0).all()


def test_counts_next_to_a_bucket_border_are_distinguished_where_floats_cannot():
    border = bucket_start(1800)  # above 2^60: float64 represents one integer in 256 there
    assert border > 2**60
    assert [bucket(border - 1), bucket(border)] == [1799, 1800]


@pytest.mark.parametrize("number", [-1, 0, 1, 2, 3, 4, 100, 1908])
def test_a_bucket_starts_with_its_smallest_count(number):
    start = bucket_start(number)
    assert bucket(start) == number
    assert number == -1 or bucket(start - 1) == number - 1


def test_a_chunked_column_is_bucketed_like_an_array():
    assert count_buckets(pa.chunked_array([[0, 5], [], [-7]], pa.int64())).tolist() == [0, 4, -1]
    assert count_buckets(pa.chunked_array([], pa.int64())).tolist() == []
