"""Shares that a hash of equal rows did not give."""

import logging

import pytest

from deepfm.click_log.split import HashSplit, TimeSplit
from deepfm.dataset.split_checks import require_sample, warn_of_shares
from deepfm.errors import UserError
from deepfm.features.statistics import RowCounts

SPLIT = HashSplit(valid=0.1, test=0.1)


def counts(train, valid, test, sampled_out=0):
    """Of rows that half have a click in; those that were left out have none."""
    rows = {"train": train, "valid": valid, "test": test}
    by_day = {part: {"": (num, num // 2)} for part, num in rows.items()}
    return RowCounts(by_day | {"sampled_out": {"": (sampled_out, 0)}}, {})


@pytest.mark.parametrize(
    ("found", "told"),
    [
        # 10,000 rows: a tenth is 1,000, give or take 8 times 30.
        (counts(8000, 1000, 1000), []),
        (counts(7780, 1110, 1110), []),
        (counts(8000, 700, 1300), ["0.1 of the rows in valid, found 0.070", "in test, found 0.130"]),
        # Rows that were left out of the training are rows of the log.
        (counts(3000, 1000, 1000, sampled_out=5000), []),
    ],
)
def test_splits_of_other_sizes_than_chance_gives_are_warned_of(caplog, found, told):
    with caplog.at_level(logging.WARNING):
        warn_of_shares(found, "file:///log", SPLIT)
    assert len(caplog.messages) == len(told)
    for message, words in zip(caplog.messages, told, strict=True):
        assert words in message and "many are equal, and those share a split" in message


def test_a_split_by_time_has_nothing_to_do_with_equal_rows(caplog):
    warn_of_shares(counts(10, 5000, 5000), "file:///log", TimeSplit(1, 2))
    assert not caplog.messages


def test_a_sample_of_another_size_than_chance_gives_is_refused():
    require_sample(counts(2000, 0, 0, sampled_out=9000), "file:///log", 0.1)
    with pytest.raises(UserError, match="expected keep_negatives 0.1 to keep .* found 0.200: many rows are"):
        require_sample(counts(2000, 0, 0, sampled_out=4000), "file:///log", 0.1)
