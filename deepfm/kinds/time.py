"""Times of impressions: text -> seconds -> hour, weekday and part of the day.

Nothing is fitted: hour 7 has the same id in every dataset.
"""

from datetime import datetime, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.kind import FieldEncoder, FieldKind, FieldSettings, FittedField, empty_to_null
from deepfm.kinds.literals import MISSING_ID, TIME_NAMES, TimeFormat
from deepfm.kinds.numbers import parse_decimals, parse_integers

_DAY_S, _HOUR_S = 86_400, 3_600
#: Day and time separated by a space or T, to the second; fractions and a trailing Z are allowed.
_ISO = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?Z?\z"
#: The same without a time or without seconds, and with an offset.
_ANY_ISO = (
    r"\A(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:[ T](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,][0-9]+)?)?"
    r"(?: ?(?P<zone>Z|(?P<sign>[-+])(?P<offset_h>[0-9]{2}):?(?P<offset_min>[0-9]{2})?))?)?\z"
)
#: The years 1 to 9999, for which days are YYYY-MM-DD. Milliseconds mistaken for seconds are out of range.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
_UNITS_PER_S = {"unix_s": 1, "unix_ms": 1000, "unix_us": 10**6, "unix_ns": 10**9}

#: Number of values of each time field; 0 is hour 0, Monday, and hours 0 to 5.
NUM_VALUES = {"hour": 24, "weekday": 7, "day_part": 4}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: Two typical times and an unusual one.
_EXAMPLES = ((datetime(2026, 1, 1, 9), datetime(2026, 1, 3, 21, 30)), datetime(1970, 1, 1))


def parse_times(
    strings: pa.Array, time_format: TimeFormat, time_zone: str = "UTC"
) -> tuple[pa.Array, np.ndarray]:
    """(n,) strings -> (n,) int64 seconds since 1970 in UTC, null if missing, and (n,) bool: False if invalid.

    Fractions of a second are dropped. `time_zone` is that of times without an offset: of an hour that occurs
    twice the first, and an hour that is skipped is the next one.
    """
    if time_format == "iso":
        seconds, is_time, is_local = _iso_seconds(strings)
    elif time_format in _UNITS_PER_S:
        seconds, is_time = _unix_seconds(strings, _UNITS_PER_S[time_format])
        is_local = np.zeros(len(strings), bool)
    else:
        seconds, is_time, is_local = _strptime_seconds(strings, time_format)
    if time_zone != "UTC" and is_local.any():
        seconds[is_local] = _to_utc(seconds[is_local], time_zone)
    is_time = is_time & (seconds >= _FIRST_S) & (seconds <= _LAST_S)
    return pa.array(seconds, mask=np.asarray(strings.is_null()) | ~is_time), is_time


def _iso_seconds(strings: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) strings -> (n,) seconds, 0 if there is no time, and two (n,) bool: missing or valid; no offset."""
    seconds, is_time = (np.zeros(len(strings), np.int64), np.asarray(strings.is_null()).copy())
    fits = np.asarray(pc.fill_null(pc.match_substring_regex(strings, _ISO), False))
    is_local = fits & ~np.asarray(pc.fill_null(pc.ends_with(strings, "Z"), False))
    texts = pc.utf8_slice_codeunits(strings.filter(pa.array(fits)), 0, 19)
    digits = np.array(texts.to_pylist(), "S19").view(np.uint8).reshape(-1, 19).astype(np.int64) - ord("0")
    columns = [slice(0, 4), slice(5, 7), slice(8, 10), slice(11, 13), slice(14, 16), slice(17, 19)]
    parts = [digits[:, place] @ 10 ** np.arange(place.stop - place.start)[::-1] for place in columns]
    seconds[fits], is_time[fits] = _civil_seconds(*parts)
    others = ~fits & ~is_time
    if others.any():
        seconds[others], is_time[others], is_local[others] = _any_iso_seconds(
            strings.filter(pa.array(others))
        )
    return seconds, is_time, is_local


def _any_iso_seconds(strings: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matches = pc.extract_regex(strings, _ANY_ISO)
    fits = np.asarray(matches.is_valid())

    def number(name: str) -> np.ndarray:
        texts = pc.fill_null(pc.struct_field(matches, name), "")
        return np.asarray(pc.if_else(pc.equal(texts, ""), "0", texts).cast(pa.int64()))

    parts = [number(name) for name in ("year", "month", "day", "hour", "minute", "second")]
    seconds, is_time = _civil_seconds(*parts)
    is_negative = np.asarray(pc.fill_null(pc.equal(pc.struct_field(matches, "sign"), "-"), False))
    offsets = number("offset_h") * _HOUR_S + number("offset_min") * 60
    seconds = seconds - np.where(is_negative, -offsets, offsets)
    is_local = np.asarray(pc.equal(pc.fill_null(pc.struct_field(matches, "zone"), ""), ""))
    return seconds, is_time & fits, is_local & fits


def _civil_seconds(year, month, day, hour, minute, second) -> tuple[np.ndarray, np.ndarray]:
    """Six (n,) int64 -> (n,) seconds, and (n,) bool: whether they are a time."""
    months = (year - 1970) * 12 + month - 1
    first, next_first = (
        m.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for m in (months, months + 1)
    )
    valid = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= next_first - first)
    valid &= (hour < 24) & (minute < 60) & (second < 60)
    return (first + day - 1) * _DAY_S + hour * _HOUR_S + minute * 60 + second, valid


def _unix_seconds(strings: pa.Array, units_per_s: int) -> tuple[np.ndarray, np.ndarray]:
    numbers, is_time = parse_integers(strings)
    seconds = np.asarray(pc.fill_null(numbers, 0)) // units_per_s
    if not is_time.all():
        fractions, is_number = parse_decimals(strings.filter(pa.array(~is_time)))
        floored = np.floor(np.asarray(pc.fill_null(fractions, 0.0)) / units_per_s)
        seconds[~is_time] = np.clip(floored, _FIRST_S - 1, _LAST_S + 1).astype(np.int64)
        is_time[~is_time] = is_number
    return seconds, is_time


def _strptime_seconds(strings: pa.Array, time_format: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    distinct = strings.dictionary_encode()
    texts = pd.Series(distinct.dictionary.to_pylist(), dtype=object)
    has_offset = "%z" in time_format
    # pandas takes the text "now" for the current time, whatever the format is.
    texts = texts.where(texts.str.contains("[0-9]", regex=True).astype(bool), None)
    times = pd.to_datetime(texts, format=time_format, errors="coerce", utc=True)
    of_distinct = times.astype("datetime64[s, UTC]").astype(np.int64).to_numpy()
    # The last entries are for missing values.
    indices = np.asarray(pc.fill_null(distinct.indices, len(texts)))
    seconds = np.append(np.where(times.isna(), 0, of_distinct), 0)[indices]
    return (seconds, np.append(times.notna(), True)[indices], np.full(len(strings), not has_offset))


def _to_utc(seconds: np.ndarray, time_zone: str) -> np.ndarray:
    local = pd.DatetimeIndex(seconds.astype("datetime64[s]"))
    times = local.tz_localize(time_zone, ambiguous=np.ones(len(local), bool), nonexistent="shift_forward")
    return times.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)


def to_local(seconds: np.ndarray, time_zone: str) -> np.ndarray:
    """(n,) int64 seconds since 1970 in UTC -> those that the clocks of the zone show."""
    if time_zone == "UTC":
        return seconds
    times = pd.DatetimeIndex(seconds.astype("datetime64[s]")).tz_localize("UTC").tz_convert(time_zone)
    return times.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)


def local_days(seconds: pa.Array, time_zone: str = "UTC") -> pa.Array:
    """(n,) int64 seconds -> (n,) days YYYY-MM-DD of the zone as strings, null where missing."""
    days = to_local(np.asarray(pc.fill_null(seconds, 0)), time_zone) // _DAY_S
    return pa.array(days.astype("datetime64[D]"), mask=np.asarray(seconds.is_null())).cast(pa.string())


def time_values(seconds: np.ndarray, name: str, time_zone: str = "UTC") -> np.ndarray:
    """(n,) int64 seconds -> (n,) int32 values of the field `name`, from 0 to NUM_VALUES[name] - 1."""
    hours = to_local(seconds, time_zone) // _HOUR_S
    # 1970 began on a Thursday.
    values = {"hour": hours % 24, "weekday": (hours // 24 + 3) % 7, "day_part": hours % 24 // 6}
    return values[name].astype(np.int32)


class TimeKind(FieldKind):
    """Hour, weekday or part of the day of a time column, in the time zone of the log."""

    name = "time"
    is_bucketed = can_be_crossed = True
    rejection = "time_not_a_time"

    def group_errors(self, names: tuple[str, ...]) -> list[str]:
        unknown = sorted(set(names) - set(TIME_NAMES))
        if not unknown:
            return []
        return [f"names: fields of kind time are {', '.join(TIME_NAMES)}, found {', '.join(unknown)}"]

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        return parse_times(empty_to_null(strings), _format_of(field), field.time_zone)

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _TimeEncoder(field.name, field.first_known_id, field.time_zone)

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        return field.first_known_id + NUM_VALUES[field.name]

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        return [field.source, field.time_format, *([] if field.time_zone == "UTC" else [field.time_zone])]

    def expected(self, field: FieldSettings) -> str:
        return f"times as {field.time_format}"

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        known, unusual = _EXAMPLES
        return [_example(moment, _format_of(field)) for moment in known], _example(unusual, _format_of(field))

    def value_name(self, field: FieldSettings, position: int, fitted: FittedField) -> str:
        if field.name == "weekday":
            return _WEEKDAYS[position]
        return f"{position} h" if field.name == "hour" else f"{6 * position} to {6 * position + 5} h"


def _example(moment: datetime, time_format: TimeFormat) -> object:
    if time_format in _UNITS_PER_S:
        return float(moment.replace(tzinfo=timezone.utc).timestamp() * _UNITS_PER_S[time_format])
    return str(moment) if time_format == "iso" else moment.replace(tzinfo=timezone.utc).strftime(time_format)


def _format_of(field: FieldSettings) -> TimeFormat:
    assert field.time_format is not None
    return field.time_format


class _TimeEncoder:
    def __init__(self, name: str, first_known_id: int, time_zone: str):
        self._name, self._first_known_id, self._time_zone = (name, first_known_id, time_zone)

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        column = raw.column(self._name)
        ids = self._first_known_id + time_values(
            pc.fill_null(column, 0).to_numpy(), self._name, self._time_zone
        )
        return [
            np.where(np.asarray(column.is_null()), np.int32(MISSING_ID), ids) if column.null_count else ids
        ]
