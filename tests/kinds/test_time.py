"""Times in UTC: parsing to seconds, and hour, weekday and part of the day."""

from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.kinds.time import NUM_VALUES, local_days, parse_times, time_values


def parsed(*texts, time_format="iso"):
    """Return (seconds, whether each is valid)."""
    seconds, is_time = parse_times(pa.array(texts, pa.string()), time_format)
    assert seconds.type == pa.int64()
    return seconds.to_pylist(), is_time.tolist()


def test_an_iso_time_is_read_with_a_space_or_a_t():
    times = ["1970-01-02 01:02:03", "1970-01-02T01:02:03", "1970-01-02 01:02:03.999", "1970-01-02T01:02:03Z"]
    assert parsed(*times) == ([86_400 + 3_723] * 4, [True] * 4)


def test_seconds_and_milliseconds_since_1970_are_read():
    assert parsed("1767258000", "-1", time_format="unix_s") == ([1_767_258_000, -1], [True, True])
    assert parsed("1767258000999", "-1", time_format="unix_ms") == ([1_767_258_000, -1], [True, True])


@pytest.mark.parametrize("time_format", ["iso", "unix_s", "unix_ms"])
def test_a_missing_time_is_not_an_error(time_format):
    assert parsed(None, time_format=time_format) == ([None], [True])
    assert parsed(time_format=time_format) == ([], [])


@pytest.mark.parametrize(
    "text",
    ["2026-02-30 00:00:00", "2026-00-01 00:00:00", "2026-13-01 00:00:00", "2026-01-00 00:00:00",
     "2026-01-01 24:00:00", "2026-01-01 00:60:00", "2026-01-01 00:00:60", "0000-01-01 00:00:00",
     "2026-1-1 00:00:00", "2026-01-01  00:00:00", "2026-01-01 00:00:00+1", "1767258000",
     " 2026-01-01 00:00:00", "2026-01-01 00:00:00 ", "2026-01-01 00:00:00.", "2026-01-01 00:00:00\n", "now"],
)  # fmt: skip
def test_other_text_is_not_an_iso_time(text):
    assert parsed(text, "2026-01-01 00:00:00") == ([None, 1_767_225_600], [False, True])


@pytest.mark.parametrize("text", ["1.5.", "2026-01-01 00:00:00", "0x1f", "1767258000999", "-99999999999"])
def test_other_text_is_not_a_time_in_seconds(text):
    # Milliseconds mistaken for seconds are far beyond the year 9999.
    assert parsed(text, "0", time_format="unix_s") == ([None, 0], [False, True])


@given(st.datetimes(min_value=datetime(1, 1, 1)))
def test_every_time_equals_pythons_timestamp(moment):
    moment = moment.replace(microsecond=0, tzinfo=timezone.utc)
    text = moment.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")
    seconds, is_time = parse_times(pa.array([text]), "iso")
    assert (seconds.to_pylist(), is_time.tolist()) == ([int(moment.timestamp())], [True])
    assert local_days(seconds).to_pylist() == [moment.date().isoformat()]
    values = {name: time_values(np.asarray(seconds), name).tolist() for name in NUM_VALUES}
    assert values == {"hour": [moment.hour], "weekday": [moment.weekday()], "day_part": [moment.hour // 6]}


def test_the_day_changes_at_midnight_utc_and_is_missing_with_the_time():
    seconds = pa.array([86_399, 86_400, -1, None], pa.int64())
    assert local_days(seconds).to_pylist() == ["1970-01-01", "1970-01-02", "1969-12-31", None]
    assert local_days(pa.array([], pa.int64())).type == pa.string()


def test_values_are_int32():
    assert {time_values(np.array([0]), name).dtype for name in NUM_VALUES} == {np.dtype(np.int32)}
