"""Crossed ids: one id per combination of the parts' ids, equal on every machine."""

import numpy as np
import pytest

from deepfm.kinds.cross import cross_ids, splitmix64


def crossed(*parts, buckets=1000):
    return cross_ids([np.array(ids, np.int32) for ids in parts], buckets).tolist()


def test_splitmix64_matches_the_published_results():
    # The first results of Vigna's splitmix64.c from the states 0 and 1234567, and the second of the latter.
    states = np.array([0, 1234567, (1234567 + 0x9E3779B97F4A7C15) % 2**64], np.uint64)
    assert splitmix64(states).tolist() == [0xE220A8397B1DCDAF, 6457827717110365317, 3203168211198807973]


def mixed_by_definition(ids, buckets):
    """Reference implementation with Python's integers, which never overflow."""
    state = 0
    for part in ids:
        z = (state + part + 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        state = z ^ (z >> 31)
    return state % buckets


@pytest.mark.parametrize("buckets", [1, 7, 100_000, 2**31 - 1])
def test_ids_of_a_cross_follow_from_the_ids_of_its_parts(buckets):
    rows = [(0, 0, 0), (1, 2, 3), (3, 2, 1), (2**31 - 1, 2**31 - 1, 0)]
    expected = [mixed_by_definition(row, buckets) for row in rows]
    assert crossed(*zip(*rows, strict=True), buckets=buckets) == expected
    assert all(0 <= one < buckets for one in expected)


def test_the_order_of_the_parts_matters():
    assert crossed([2], [3]) != crossed([3], [2])
    assert crossed([2], [3]) != crossed([2], [3], [0])


def test_combinations_spread_evenly_over_the_buckets():
    a, b = np.divmod(np.arange(10_000), 100)
    counts = np.bincount(crossed(a, b, buckets=100), minlength=100)
    assert len(set(crossed(a, b, buckets=2**31 - 1))) > 9_990
    # 100 expected in each, standard deviation 10.
    assert counts.min() > 50 and counts.max() < 150


def test_ids_of_no_rows_are_int32():
    empty = np.array([], np.int32)
    assert cross_ids([empty, empty], 5).dtype == np.int32
    assert crossed([], []) == []
