"""Assignment of rows to train, valid and test: by days, by time, or by a stable hash of the row."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.labels_and_days import is_day
from deepfm.click_log.log_files import split_of_file
from deepfm.click_log.parse import ParsedRows
from deepfm.errors import UserError

SPLITS = ("train", "valid", "test")
OUTSIDE = -1


@dataclass(frozen=True)
class DaySplit:
    """Inclusive day ranges (first, last) of train, valid and test, YYYY-MM-DD."""

    ranges: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]

    def codes(self, rows: ParsedRows) -> np.ndarray:
        """Return (n,) int8: 0 train, 1 valid, 2 test, -1 outside all ranges."""
        days = rows.days
        codes = np.full(len(days), OUTSIDE, np.int8)
        for code, (first, last) in enumerate(self.ranges):
            # ISO days sort as text.
            inside = pc.and_(pc.greater_equal(days, first), pc.less_equal(days, last))
            codes[np.asarray(pc.fill_null(inside, False))] = code
        return codes

    def days(self) -> list[str]:
        """List every day of the three ranges."""
        return [day for first, last in self.ranges for day in days_between(first, last)]


@dataclass(frozen=True)
class HeldOutDays:
    """Days of the test rows; the rows of all other days are outside."""

    days: tuple[str, ...]

    def codes(self, rows: ParsedRows) -> np.ndarray:
        """Return (n,) int8: 2 test, -1 outside."""
        is_test = pc.is_in(rows.days, value_set=pa.array(self.days, pa.string()))
        return np.where(np.asarray(is_test), SPLITS.index("test"), OUTSIDE).astype(np.int8)


@dataclass(frozen=True)
class HashSplit:
    """Shares of rows for validation and test; the rest is for training.

    Rows are assigned by a hash of their content (Parquet: of the columns that are read). Equal rows stay
    together, so no row is evaluated that was trained on. With many equal rows the shares are approximate.
    """

    valid: float
    test: float

    def codes(self, rows: ParsedRows) -> np.ndarray:
        """Return (n,) int8: 0 train, 1 valid, 2 test."""
        # Rows of a dataset are later ordered by the whole hash. Using the high bits here is harmless, because
        # that order only matters within one split.
        position = (rows.row_hashes.view(np.uint64) >> np.uint64(11)).astype(np.float64) / 2.0**53
        is_valid, is_test = position < self.valid, position < self.valid + self.test
        return np.where(is_valid, 1, np.where(is_test, 2, 0)).astype(np.int8)


@dataclass(frozen=True)
class TimeSplit:
    """First second (since 1970) of validation and of test; earlier rows are for training."""

    valid_from: int
    test_from: int

    def codes(self, rows: ParsedRows) -> np.ndarray:
        """Return (n,) int8: 0 train, 1 valid, 2 test."""
        seconds = np.asarray(rows.seconds)
        return ((seconds >= self.valid_from).astype(np.int8) + (seconds >= self.test_from)).astype(np.int8)


@dataclass(frozen=True)
class FileSplit:
    """Patterns of the names of the files of train, valid and test."""

    patterns: tuple[str, str, str]

    def codes(self, rows: ParsedRows) -> np.ndarray:
        """Return (n,) int8: 0 train, 1 valid, 2 test, -1 for files of no part."""
        files = rows.files
        encoded = (
            files.combine_chunks() if isinstance(files, pa.ChunkedArray) else files
        ).dictionary_encode()
        parts = [split_of_file(file, self.patterns) for file in encoded.dictionary.to_pylist()]
        return np.array(parts, np.int8)[np.asarray(encoded.indices)]


Split = DaySplit | HeldOutDays | HashSplit | TimeSplit | FileSplit


def day_split(train: str, valid: str, test: str) -> DaySplit:
    """Make a DaySplit from "A:B" or "A" per part. Raise UserError for invalid or overlapping ranges."""
    ranges = tuple(parse_days(text, flag) for text, flag in zip((train, valid, test), SPLITS, strict=True))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        if ranges[one][0] <= ranges[other][1] and ranges[other][0] <= ranges[one][1]:
            raise UserError(
                f"--{SPLITS[one]}-days and --{SPLITS[other]}-days overlap; a model cannot be evaluated on a "
                "day it was trained on: use disjoint ranges"
            )
    (train, _), (valid, _), (test, _) = ranges
    if not (train < test and train < valid):
        raise UserError(
            f"--train-days {train} is after --valid-days {valid} or --test-days {test}: it would learn "
            "from the future; train on the earlier days"
        )
    return DaySplit((ranges[0], ranges[1], ranges[2]))


def parse_days(text: str, flag: str) -> tuple[str, str]:
    """Parse "A:B" or "A" to (A, B)."""
    first, _, last = text.partition(":")
    last = last or first
    if not (is_day(first) and is_day(last) and first <= last):
        raise UserError(
            f"--{flag}-days: expected a day YYYY-MM-DD or a range A:B with A before B, found {text}"
        )
    return first, last


def days_between(first: str, last: str) -> list[str]:
    """List every day from first to last, inclusive."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]
