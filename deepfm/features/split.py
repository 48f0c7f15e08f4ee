"""Which rows are for training, validation and test: by days, or by a stable hash where a log has none."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.errors import UserError
from deepfm.features.parse import is_day

SPLITS = ("train", "valid", "test")
OUTSIDE = -1


@dataclass(frozen=True)
class DaySplit:
    """Inclusive day ranges (first, last) of train, valid and test, YYYY-MM-DD."""

    ranges: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]

    def codes(self, days: pa.Array | pa.ChunkedArray, row_hashes: np.ndarray) -> np.ndarray:
        """(n,) days -> (n,) int8: 0 train, 1 valid, 2 test, -1 outside all ranges."""
        codes = np.full(len(days), OUTSIDE, np.int8)
        for code, (first, last) in enumerate(self.ranges):
            # Days in ISO form sort as text.
            inside = pc.and_(pc.greater_equal(days, first), pc.less_equal(days, last))
            codes[np.asarray(pc.fill_null(inside, False))] = code
        return codes

    def days(self) -> list[str]:
        """Every day of the three ranges."""
        return [day for first, last in self.ranges for day in days_between(first, last)]


@dataclass(frozen=True)
class HashSplit:
    """Shares of the rows that are for validation and test; the rest is for training."""

    valid: float
    test: float

    def codes(self, days: pa.Array | pa.ChunkedArray | None, row_hashes: np.ndarray) -> np.ndarray:
        """(n,) int64 row hashes -> (n,) int8: 0 train, 1 valid, 2 test. Equal rows fall together."""
        # The high bits choose the split; the order of rows in the dataset comes from the hash's own order,
        # within one split, and is none the worse for it.
        place = (row_hashes.view(np.uint64) >> np.uint64(11)).astype(np.float64) / 2.0**53
        return np.where(place < self.valid, 1, np.where(place < self.valid + self.test, 2, 0)).astype(np.int8)


def choose_split(
    log_url: str, has_days: bool, shares: "HashSplit", day_ranges: tuple[str | None, str | None, str | None]
) -> "DaySplit | HashSplit":
    """The split a log calls for: the given day ranges where it has days, else `shares` of a stable hash."""
    if has_days and not all(day_ranges):
        raise UserError(f"{log_url} has days: give --train-days, --valid-days and --test-days")
    if not has_days and any(day_ranges):
        raise UserError(f"{log_url} has no days: leave out --train-days, --valid-days and --test-days")
    return day_split(*day_ranges) if has_days else HashSplit(shares.valid, shares.test)


def day_split(train: str, valid: str, test: str) -> DaySplit:
    """A DaySplit from "A:B" (or a day "A") a part; UserError for what is no day, ends early or overlaps."""
    ranges = tuple(parse_days(text, flag) for text, flag in zip((train, valid, test), SPLITS, strict=True))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        if ranges[one][0] <= ranges[other][1] and ranges[other][0] <= ranges[one][1]:
            raise UserError(
                f"--{SPLITS[one]}-days and --{SPLITS[other]}-days overlap; a model that saw a day cannot be "
                "measured on it: make the ranges apart"
            )
    return DaySplit(ranges)


def parse_days(text: str, flag: str) -> tuple[str, str]:
    """ "A:B" or "A" -> (A, B)."""
    first, _, last = text.partition(":")
    last = last or first
    if not (is_day(first) and is_day(last) and first <= last):
        raise UserError(
            f"--{flag}-days: expected a day YYYY-MM-DD or a range A:B with A before B, found {text}"
        )
    return first, last


def days_between(first: str, last: str) -> Iterable[str]:
    """Every day from first to last, both included."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]
