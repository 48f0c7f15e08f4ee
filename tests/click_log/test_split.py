"""Which rows are for training, validation and test."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from deepfm.click_log.split import DaySplit, HashSplit, TimeSplit, day_split, days_between
from deepfm.errors import UserError

SPLIT = DaySplit((("2026-01-01", "2026-01-03"), ("2026-01-05", "2026-01-05"), ("2026-01-06", "2026-01-07")))


def codes_of_days(*days):
    return SPLIT.codes(SimpleNamespace(days=pa.array(days, pa.string()))).tolist()


def test_the_first_and_last_day_of_a_range_belong_to_it():
    assert codes_of_days("2026-01-01", "2026-01-03", "2026-01-05", "2026-01-06", "2026-01-07") == [
        0,
        0,
        1,
        2,
        2,
    ]


def test_a_day_outside_all_ranges_is_for_nothing():
    assert codes_of_days("2025-12-31", "2026-01-04", "2026-01-08", None) == [-1, -1, -1, -1]


def test_days_cross_the_ends_of_months_and_leap_years():
    assert days_between("2024-02-28", "2024-03-01") == ["2024-02-28", "2024-02-29", "2024-03-01"]


def test_the_days_of_a_split_are_those_of_its_ranges():
    assert SPLIT.days() == [f"2026-01-0{n}" for n in (1, 2, 3, 5, 6, 7)]


def test_a_range_is_two_days_and_one_day_is_a_range():
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
def test_what_is_no_day_or_ends_before_it_begins_is_refused(text):
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
def test_ranges_that_share_a_day_are_refused(train, valid, test):
    with pytest.raises(UserError, match="overlap"):
        day_split(train, valid, test)


def test_a_second_belongs_to_the_part_that_begins_with_it():
    rows = SimpleNamespace(seconds=pa.array([-5, 9, 10, 19, 20, 21]))
    assert TimeSplit(10, 20).codes(rows).tolist() == [0, 0, 1, 1, 2, 2]


def codes_of_hashes(valid, test, *hashes):
    return HashSplit(valid, test).codes(SimpleNamespace(row_hashes=np.array(hashes, np.int64))).tolist()


def test_the_place_of_a_hash_among_all_hashes_chooses_the_part():
    # As unsigned numbers these lie at 0, 1/8, 1/2 and just below 1 of all hashes.
    assert codes_of_hashes(0.1, 0.1, 0, 2**61, -(2**63), -1) == [1, 2, 0, 0]
    assert codes_of_hashes(0.5, 0.5, 0, 2**61, -(2**63), -1) == [1, 1, 2, 2]


def test_shares_come_out_right():
    hashes = np.random.default_rng(1).integers(-(2**63), 2**63, 100_000)
    shares = np.bincount(HashSplit(0.1, 0.2).codes(SimpleNamespace(row_hashes=hashes))) / len(hashes)
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.01)
