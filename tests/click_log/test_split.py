"""Assignment of rows to train, valid and test."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from deepfm.click_log.split import DaySplit, HashSplit, TimeSplit, day_split, days_between
from deepfm.errors import UserError

SPLIT = DaySplit((("2026-01-01", "2026-01-03"), ("2026-01-05", "2026-01-05"), ("2026-01-06", "2026-01-07")))


def codes_of_days(*days):
    return SPLIT.codes(SimpleNamespace(days=pa.array(days, pa.string()))).tolist()


def test_day_ranges_include_their_first_and_last_day():
    assert codes_of_days("2026-01-01", "2026-01-03", "2026-01-05", "2026-01-06", "2026-01-07") == [
        0,
        0,
        1,
        2,
        2,
    ]


def test_a_day_outside_all_ranges_belongs_to_no_split():
    assert codes_of_days("2025-12-31", "2026-01-04", "2026-01-08", None) == [-1, -1, -1, -1]


def test_day_lists_span_month_ends_and_leap_days():
    assert days_between("2024-02-28", "2024-03-01") == ["2024-02-28", "2024-02-29", "2024-03-01"]


def test_the_days_of_a_split_are_the_days_of_its_ranges():
    assert SPLIT.days() == [f"2026-01-0{n}" for n in (1, 2, 3, 5, 6, 7)]


def test_a_range_is_given_by_two_days_or_one():
    split = day_split("2026-01-01:2026-01-03", "2026-01-05", "2026-01-06:2026-01-07")
    assert split == SPLIT


@pytest.mark.parametrize(
    "text",
    [
        "2026-1-1",
        "20260101",
        "2026-02-30",
        "today",
        "",
        "2026-01-02:2026-01-01",
        "2026-01-01:2026-01-02:2026-01-03",
    ],
)
def test_an_invalid_day_or_reversed_range_is_rejected(text):
    with pytest.raises(UserError, match="--valid-days: expected a day YYYY-MM-DD or a range A:B"):
        day_split("2025-12-01", text, "2026-02-01")


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("2026-01-01:2026-01-05", "2026-01-05", "2026-01-06"),
        ("2026-01-01", "2026-01-02:2026-01-09", "2026-01-04"),
        ("2026-01-03", "2026-01-02", "2026-01-01:2026-01-31"),
    ],
)
def test_overlapping_ranges_are_rejected(train, valid, test):
    with pytest.raises(UserError, match="overlap"):
        day_split(train, valid, test)


def test_a_second_belongs_to_the_part_that_starts_with_it():
    rows = SimpleNamespace(seconds=pa.array([-5, 9, 10, 19, 20, 21]))
    assert TimeSplit(10, 20).codes(rows).tolist() == [0, 0, 1, 1, 2, 2]


def codes_of_hashes(valid, test, *hashes):
    return HashSplit(valid, test).codes(SimpleNamespace(row_hashes=np.array(hashes, np.int64))).tolist()


def test_the_position_of_a_hash_in_the_hash_range_chooses_the_part():
    # As unsigned numbers these are at 0, 1/8, 1/2 and just below 1 of the hash range.
    assert codes_of_hashes(0.1, 0.1, 0, 2**61, -(2**63), -1) == [1, 2, 0, 0]
    assert codes_of_hashes(0.5, 0.5, 0, 2**61, -(2**63), -1) == [1, 1, 2, 2]


def test_hash_split_matches_the_requested_shares():
    hashes = np.random.default_rng(1).integers(-(2**63), 2**63, 100_000)
    shares = np.bincount(HashSplit(0.1, 0.2).codes(SimpleNamespace(row_hashes=hashes))) / len(hashes)
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.01)
