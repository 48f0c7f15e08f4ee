"""Shares of splits and samples when many rows are equal."""

import logging

import pytest

from deepfm.click_log.split import HashSplit, TimeSplit
from deepfm.dataset.split_checks import require_sample, warn_of_uneven_splits
from deepfm.errors import UserError
from deepfm.features.statistics import RowCounts

SPLIT = HashSplit(valid=0.1, test=0.1)


def counts(train, valid, test, sampled_out=0):
    """RowCounts in which half of the rows of each split are clicks, and none of those sampled out."""
    rows = {"train": train, "valid": valid, "test": test}
    by_day = {part: {"": (num, num // 2)} for part, num in rows.items()}
    return RowCounts(by_day | {"sampled_out": {"": (sampled_out, 0)}}, {})


@pytest.mark.parametrize(
    ("row_counts", "warnings"),
    [
        # 10,000 rows: a tenth is 1,000, with a standard deviation of 30.
        (counts(8000, 1000, 1000), []),
        (counts(7780, 1110, 1110), []),
        (counts(8000, 700, 1300), ["0.1 of the rows in valid, found 0.070", "in test, found 0.130"]),
        # Rows that were sampled out count as rows of the log.
        (counts(3000, 1000, 1000, sampled_out=5000), []),
    ],
)
def test_shares_that_chance_does_not_explain_cause_a_warning(caplog, row_counts, warnings):
    with caplog.at_level(logging.WARNING):
        warn_of_uneven_splits(row_counts, "file:///log", SPLIT)
    assert len(caplog.messages) == len(warnings)
    for message, words in zip(caplog.messages, warnings, strict=True):
        assert words in message and "many rows are equal, and equal rows are in the same split" in message


def test_a_split_by_time_causes_no_warning(caplog):
    warn_of_uneven_splits(counts(10, 5000, 5000), "file:///log", TimeSplit(1, 2))
    assert not caplog.messages


def test_a_sample_that_chance_does_not_explain_is_an_error():
    require_sample(counts(2000, 0, 0, sampled_out=9000), "file:///log", 0.1)
    with pytest.raises(UserError, match="expected keep_negatives 0.1 to keep .* found 0.200: many rows are"):
        require_sample(counts(2000, 0, 0, sampled_out=4000), "file:///log", 0.1)
