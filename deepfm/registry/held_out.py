"""Test rows of a candidate, and those of them that another model was not trained on."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from deepfm.artifact.training_data import TrainingData
from deepfm.click_log.split import HashSplit, HeldOutDays, Split, TimeSplit
from deepfm.settings.data import Shares

#: Difference of two shares that are equal but for rounding.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class HeldOutRows:
    """Test rows of a log, by days, by time, by names of files or by row hash."""

    data: TrainingData  # of the model whose test rows they are
    days: tuple[str, ...] = ()  # by days
    start: int | None = None  # by time: seconds at which they start
    hashes: tuple[float, float] | None = None  # by row hash: from and below these positions

    @classmethod
    def of_model(cls, data: TrainingData) -> "HeldOutRows":
        """Return the test rows of a model."""
        if data.days:
            return cls(data, days=data.days_of("test"))
        if data.times:
            return cls(data, start=data.times[1])
        return cls(data, hashes=_test_hashes(data.shares) if data.shares else None)

    @property
    def split(self) -> Split | None:
        """Split whose test rows they are; None: by names of files."""
        if self.days:
            return HeldOutDays(self.days)
        if self.start is not None:
            return TimeSplit(self.start, self.start)
        return HashSplit(self.hashes[0], self.hashes[1] - self.hashes[0]) if self.hashes else None

    @property
    def text(self) -> str:
        """The rows in words."""
        if self.days:
            return format_days(self.days)
        if self.start is not None:
            return f"the rows from {_format_time(self.start, self.data.time_zone)} on"
        if self.hashes:
            return f"{self.hashes[1] - self.hashes[0]:.1%} of the rows"
        return "the test files"


@dataclass(frozen=True)
class Seen:
    """Held-out rows that a model was trained on, in words, and the rows that remain."""

    text: str  # such as "was trained on 2026-01-03"
    remaining: HeldOutRows | None  # None: no row
    is_known: bool = True  # False: whether the model was trained on the rows cannot be known


def find_seen(rows: HeldOutRows, data: TrainingData) -> Seen | None:
    """Find the held-out rows among the training and validation rows of `data`; None if there are none.

    Days and times are compared whatever the URLs are, because logs are copied; other splits only within one
    log.
    """
    if rows.days and (data.days or data.times):
        return _seen_days(rows, data)
    if rows.start is not None and (data.days or data.times):
        return _seen_times(rows, data)
    if rows.data.url.rstrip("/") != data.url.rstrip("/"):
        text = f"was trained on another log, {data.url}, and the two splits are not both by days"
        return Seen(text, rows, is_known=False)
    if rows.hashes and data.shares and rows.data.hashed_columns == data.hashed_columns:
        return _seen_hashes(rows, rows.hashes, data.shares)
    if rows.data.files and rows.data.files == data.files:
        return None
    return Seen("was trained on rows of the same log, which it split in another way", None)


def _seen_days(rows: HeldOutRows, data: TrainingData) -> Seen | None:
    if data.times:
        last = data.last_seen_day or ""
        by_verb = {"trained": [day for day in rows.days if day <= last]}
    else:
        parts = {"trained": data.days_of("train"), "validated": data.days_of("valid")}
        by_verb = {verb: [day for day in rows.days if day in days] for verb, days in parts.items()}
    seen = {day for days in by_verb.values() for day in days}
    if not seen:
        return None
    clauses = [f"{verb} on {format_days(days)}" for verb, days in by_verb.items() if days]
    days = tuple(day for day in rows.days if day not in seen)
    return Seen(f"was {' and '.join(clauses)}", replace(rows, days=days) if days else None)


def _seen_times(rows: HeldOutRows, data: TrainingData) -> Seen | None:
    assert rows.start is not None
    end, last_day = data.times and data.times[1], data.last_seen_day
    if end is None:
        if last_day is None:
            return None
        midnight = datetime.fromisoformat(last_day).replace(tzinfo=ZoneInfo(rows.data.time_zone))
        end = int((midnight + timedelta(days=1)).timestamp())
    if end <= rows.start:
        return None
    text = f"was trained or validated on rows before {_format_time(end, rows.data.time_zone)}"
    return Seen(text, replace(rows, start=end))


def _seen_hashes(rows: HeldOutRows, hashes: tuple[float, float], shares: Shares) -> Seen | None:
    (start, end), (unseen_start, unseen_end) = hashes, _test_hashes(shares)
    low, high = max(start, unseen_start), min(end, unseen_end)
    if high - low >= end - start - _TOLERANCE:
        return None
    seen_share = 1 - max(high - low, 0.0) / (end - start)
    text = (
        f"was trained or validated on {seen_share:.1%} of the held-out rows, because its hash_split differs"
    )
    return Seen(text, replace(rows, hashes=(low, high)) if high - low > _TOLERANCE else None)


def _test_hashes(shares: Shares) -> tuple[float, float]:
    """Positions of the test rows among the row hashes, see split.HashSplit."""
    return shares.valid, shares.valid + shares.test


def format_days(days: tuple[str, ...] | list[str]) -> str:
    """Format days as ranges: "2026-01-01 to 2026-01-03, 2026-01-07"."""
    ordinals = [(index, date.fromisoformat(day)) for index, day in enumerate(sorted(days))]
    ranges = []
    for _, run in groupby(ordinals, key=lambda item: item[1].toordinal() - item[0]):
        consecutive = [day.isoformat() for _, day in run]
        ranges.append(" to ".join(dict.fromkeys((consecutive[0], consecutive[-1]))))
    return ", ".join(ranges)


def _format_time(seconds: int, time_zone: str) -> str:
    return datetime.fromtimestamp(seconds, ZoneInfo(time_zone)).isoformat(sep=" ", timespec="seconds")
