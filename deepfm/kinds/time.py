"""Times of impressions in UTC: text -> seconds -> hour, weekday and part of the day.

Nothing is fitted: hour 7 has the same id in every dataset.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.kind import (
    FieldEncoder,
    FieldKind,
    FieldSettings,
    FittedField,
    empty_to_null,
)
from deepfm.kinds.literals import MISSING_ID, TIME_NAMES, TimeFormat
from deepfm.kinds.numbers import parse_integers

_DAY_S, _HOUR_S = 86_400, 3_600
#: Day and time separated by a space or T; fractions of a second (dropped) and a trailing Z are allowed.
_ISO = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z?\z"
#: The years 1 to 9999, for which days are YYYY-MM-DD. Milliseconds mistaken for seconds are out of range.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799

#: Number of values of each time field; 0 is hour 0, Monday, and hours 0 to 5.
NUM_VALUES = {"hour": 24, "weekday": 7, "day_part": 4}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: Two typical times and an unusual one.
_EXAMPLES: dict[str, tuple[list, object]] = {
    "iso": (["2026-01-01 09:00:00", "2026-01-03 21:30:00"], "1970-01-01T00:00:00"),
    "unix_s": ([1_767_258_000.0, 1_767_475_800.0], 0.0),
    "unix_ms": ([1_767_258_000_000.0, 1_767_475_800_000.0], 0.0),
}


def parse_times(strings: pa.Array, time_format: TimeFormat) -> tuple[pa.Array, np.ndarray]:
    """(n,) strings -> (n,) int64 seconds since 1970, null where missing, and (n,) bool: False if invalid."""
    if time_format == "iso":
        seconds, is_time = _iso_seconds(strings)
    else:
        numbers, is_time = parse_integers(strings)
        seconds = np.asarray(pc.fill_null(numbers, 0)) // (1000 if time_format == "unix_ms" else 1)
        is_time &= (seconds >= _FIRST_S) & (seconds <= _LAST_S)
    return pa.array(seconds, mask=np.asarray(strings.is_null()) | ~is_time), is_time


def _iso_seconds(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(n,) strings -> (n,) seconds, 0 if there is no time, and (n,) bool: whether missing or valid."""
    fits = np.asarray(pc.fill_null(pc.match_substring_regex(strings, _ISO), False))
    texts = pc.utf8_slice_codeunits(strings.filter(pa.array(fits)), 0, 19)
    digits = np.array(texts.to_pylist(), "S19").view(np.uint8).reshape(-1, 19).astype(np.int64) - ord("0")

    def number(start: int, stop: int) -> np.ndarray:
        return digits[:, start:stop] @ 10 ** np.arange(stop - start)[::-1]

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    months = (year - 1970) * 12 + month - 1
    first, next_first = (
        m.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for m in (months, months + 1)
    )
    valid = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= next_first - first)
    valid &= (hour < 24) & (minute < 60) & (second < 60)
    seconds, is_time = np.zeros(len(strings), np.int64), np.asarray(strings.is_null()).copy()
    seconds[fits] = (first + day - 1) * _DAY_S + hour * _HOUR_S + minute * 60 + second
    is_time[fits] = valid
    return seconds, is_time


def utc_days(seconds: pa.Array) -> pa.Array:
    """(n,) int64 seconds -> (n,) days YYYY-MM-DD as strings, null where missing."""
    days = np.asarray(pc.fill_null(seconds, 0)) // _DAY_S
    return pa.array(days.astype("datetime64[D]"), mask=np.asarray(seconds.is_null())).cast(pa.string())


def time_values(seconds: np.ndarray, name: str) -> np.ndarray:
    """(n,) int64 seconds -> (n,) int32 values of the field `name`, from 0 to NUM_VALUES[name] - 1."""
    hours = seconds // _HOUR_S
    # 1970 began on a Thursday.
    values = {"hour": hours % 24, "weekday": (hours // 24 + 3) % 7, "day_part": hours % 24 // 6}
    return values[name].astype(np.int32)


class TimeKind(FieldKind):
    """Hour, weekday or part of the day of a time column, in UTC."""

    name = "time"
    is_bucketed = can_be_crossed = True
    rejection = "time_not_a_time"

    def group_errors(self, names: tuple[str, ...]) -> list[str]:
        unknown = sorted(set(names) - set(TIME_NAMES))
        if not unknown:
            return []
        return [f"names: fields of kind time are {', '.join(TIME_NAMES)}, found {', '.join(unknown)}"]

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        return parse_times(empty_to_null(strings), _format_of(field))

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _TimeEncoder(field.name, field.first_known_id)

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        return field.first_known_id + NUM_VALUES[field.name]

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        return [field.source, field.time_format]

    def expected(self, field: FieldSettings) -> str:
        return f"times as {field.time_format}"

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        return _EXAMPLES[_format_of(field)]

    def value_name(self, field: FieldSettings, position: int, fitted: FittedField) -> str:
        if field.name == "weekday":
            return _WEEKDAYS[position]
        return f"{position} h" if field.name == "hour" else f"{6 * position} to {6 * position + 5} h"


def _format_of(field: FieldSettings) -> TimeFormat:
    assert field.time_format is not None
    return field.time_format


class _TimeEncoder:
    def __init__(self, name: str, first_known_id: int):
        self._name, self._first_known_id = name, first_known_id

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        column = raw.column(self._name)
        ids = self._first_known_id + time_values(pc.fill_null(column, 0).to_numpy(), self._name)
        return [
            np.where(np.asarray(column.is_null()), np.int32(MISSING_ID), ids) if column.null_count else ids
        ]
