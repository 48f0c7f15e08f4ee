"""Labels and days of rows: text -> 0 or 1, text -> YYYY-MM-DD."""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.time import local_days, parse_times

T = TypeVar("T")
_NUMBER = re.compile(r"([-+]?)(0|[1-9][0-9]*)(?:\.0*)?")
_DAY = re.compile(r"([0-9]{4})([-/]?)([0-9]{2})\2([0-9]{2})")


def parse_labels(
    strings: pa.Array,
    positive: tuple[str, ...] = (),
    negative: tuple[str, ...] = (),
    *,
    missing_is_negative: bool = False,
) -> pa.Array:
    """(n,) strings -> (n,) int8: 1 for a click, 0 for none, null for other texts.

    Without `positive` and `negative`, 0 and 1 are also 0.0, 1.0, false and true in any case. Missing are null
    and the empty text.
    """
    if not positive:
        labels = pc.index_in(strings, pa.array(["0", "1"])).cast(pa.int8())
        if not labels.null_count:
            return labels
    meanings = dict.fromkeys(negative or ("0", "false"), 0) | dict.fromkeys(positive or ("1", "true"), 1)
    labels = _of_distinct(strings, lambda text: _label_of(text, meanings, is_exact=bool(positive)), pa.int8())
    if missing_is_negative:
        is_missing = pc.or_(strings.is_null(), pc.fill_null(pc.equal(pc.utf8_trim(strings, " "), ""), False))
        labels = pc.if_else(is_missing, pa.scalar(0, pa.int8()), labels)
    return labels


def _label_of(text: str, meanings: dict[str, int], *, is_exact: bool) -> int | None:
    text = text.strip(" \t")
    if text in meanings:
        return meanings[text]
    number = _NUMBER.fullmatch(text)
    if number:
        sign = "-" if number[1] == "-" and number[2] != "0" else ""
        return meanings.get(sign + number[2])
    return None if is_exact else meanings.get(text.lower())


def parse_days(strings: pa.Array, day_format: str | None = None, time_zone: str = "UTC") -> pa.Array:
    """(n,) strings -> (n,) days YYYY-MM-DD as strings; null if there is no day.

    Without a format, days are YYYY-MM-DD, YYYYMMDD, YYYY/MM/DD, or those of ISO times.
    """
    days = _of_distinct(strings, lambda text: to_day(text, day_format), pa.string())
    no_day = pc.and_(days.is_null(), strings.is_valid())
    if day_format is None and pc.any(no_day).as_py():
        seconds, _ = parse_times(strings, "iso", time_zone)
        days = pc.if_else(no_day, local_days(seconds, time_zone), days)
    return days


def to_day(text: str, day_format: str | None = None) -> str | None:
    """Write a day as YYYY-MM-DD; None if the text is not a valid day."""
    try:
        if day_format is not None:
            return datetime.strptime(text, day_format).date().isoformat()
        match = _DAY.fullmatch(text)
        return date(int(match[1]), int(match[3]), int(match[4])).isoformat() if match else None
    except ValueError:
        return None


def is_day(text: str) -> bool:
    """Whether the text is a valid calendar day written as YYYY-MM-DD."""
    return to_day(text) == text


def are_days(strings: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) strings -> (n,) bool: whether each is a calendar day as YYYY-MM-DD."""
    unique = pc.unique(strings)
    valid = pa.array([text for text in unique.to_pylist() if text is not None and is_day(text)], pa.string())
    return np.asarray(pc.is_in(strings, valid))


def _of_distinct(strings: pa.Array, convert: Callable[[str], T | None], kind: pa.DataType) -> pa.Array:
    """Convert each distinct text once; null stays null."""
    distinct = strings.dictionary_encode()
    values = [convert(text) for text in distinct.dictionary.to_pylist()]
    return pa.array(values, kind).take(distinct.indices)
