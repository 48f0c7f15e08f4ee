"""Warnings about a whole log."""

from deepfm.click_log.split import FileSplit, HashSplit, TimeSplit, day_split
from deepfm.dataset.profiling.log_warnings import log_warnings
from deepfm.features.row_counts import RowCounts
from deepfm.settings.data import DataSettings

SETTINGS = {"format": "json", "fields": [{"kind": "category", "names": ["C"]}]}
DAYS = day_split("2026-01-01:2026-01-03", "2026-01-04", "2026-01-05")
BY_DAY = {
    "train": {f"2026-01-0{day}": (1000, 100) for day in (1, 2, 3)},
    "valid": {"2026-01-04": (1000, 90)},
    "test": {"2026-01-05": (1000, 110)},
}


def warnings(by_day=BY_DAY, split=DAYS, bad=None, bad_clicks=None, unparsed=None, **settings):
    counts = RowCounts(by_day, bad or {}, bad_clicks=bad_clicks or {})
    found = log_warnings(counts, DataSettings.model_validate(SETTINGS | settings), split, unparsed or {})
    return {warning.name: warning.text for warning in found}


def test_a_plausible_log_has_no_warnings():
    assert warnings() == {}


def test_rejected_rows_are_told_with_their_clicks():
    text = warnings(bad={"count_not_an_integer": 50}, bad_clicks={"count_not_an_integer": 20})["rejected"]
    assert (
        "50 of 5050 rows (0.99%) were rejected: count_not_an_integer; 20 of them are clicks (40.0%)" in text
    )
    assert "on_bad_value: missing keeps such rows" in text


def test_values_taken_as_missing_are_told():
    assert warnings(unparsed={"C": 3})["unparsed"].startswith("C: 3 values are not of its kind")


def test_splits_and_days_without_clicks_are_told():
    quiet = BY_DAY | {"test": {"2026-01-05": (1000, 0)}}
    assert warnings(quiet)["no_clicks"] == "1 days have no click: 2026-01-05"
    names = warnings({"train": {"": (10, 1)}, "valid": {"": (10, 0)}, "test": {"": (10, 1)}}, TimeSplit(1, 2))
    assert "the valid rows have no click" in names["no_clicks"]


def test_a_ctr_far_from_the_other_days_is_told():
    assert (
        "the CTR of 2026-01-05 is 0.3000"
        in warnings(BY_DAY | {"test": {"2026-01-05": (1000, 300)}})["unusual_ctr"]
    )
    assert "unusual_ctr" not in warnings(BY_DAY | {"test": {"2026-01-05": (10, 3)}})


def test_dropped_negatives_count_for_the_ctr():
    sampled = BY_DAY | {"train": {"2026-01-01": (190, 100)}, "sampled_out": {"2026-01-01": (810, 0)}}
    assert "unusual_ctr" not in warnings(sampled, day_split("2026-01-01", "2026-01-04", "2026-01-05"))


def test_times_decades_ago_are_told():
    old = {"train": {"1970-06-13": (9, 1)}, "valid": {"1970-06-13": (9, 1)}, "test": {"1970-06-13": (9, 1)}}
    assert "such as 1970-06-13" in warnings(old, TimeSplit(1, 2))["implausible_time"]


def test_days_without_rows_are_told():
    split = day_split("2025-12-31:2026-01-03", "2026-01-04", "2026-01-05")
    assert warnings(split=split)["days_without_rows"] == "1 requested days have no rows: 2025-12-31"


def test_a_random_split_is_told_unless_it_was_asked_for():
    by_part = {part: {"": (100, 10)} for part in ("train", "valid", "test")}
    assert "split at random" in warnings(by_part, HashSplit(0.1, 0.1))["random_split"]
    assert warnings(by_part, HashSplit(0.1, 0.1), hash_split={"valid": 0.1, "test": 0.1}) == {}
    assert warnings(by_part, FileSplit(("a", "b", "c"))) == {}
