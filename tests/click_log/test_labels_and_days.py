"""Labels and days in the forms that logs have."""

import pyarrow as pa
import pytest

from deepfm.click_log.labels_and_days import parse_days, parse_labels


def labels(*texts, **settings):
    return parse_labels(pa.array(texts, pa.string()), **settings).to_pylist()


def test_zeros_ones_and_booleans_are_labels():
    assert labels("0", "1", "0.0", "1.00", "true", "FALSE", " 1", "+1", "-0") == [0, 1, 0, 1, 1, 0, 1, 1, 0]
    assert labels("", None, "2", "-1", "t", "yes", "01", "1.5") == [None] * 8


def test_other_labels_are_listed():
    listed = {"positive": ("1", "t"), "negative": ("-1", "f")}
    assert labels("t", "f", "1.0", "-1", "-1.0", "+1", **listed) == [1, 0, 1, 0, 0, 1]
    assert labels("0", "T", "true", "", None, **listed) == [None] * 5


def test_a_missing_label_may_mean_no_click():
    assert labels(None, "", " ", "1", "x", missing_is_negative=True) == [0, 0, 0, 1, None]


@pytest.mark.parametrize(
    "text", ["2026-01-02", "20260102", "2026/01/02", "2026-01-02 00:00:00", "2026-01-02T23:30:00Z"]
)
def test_the_usual_forms_of_a_day(text):
    assert parse_days(pa.array([text])).to_pylist() == ["2026-01-02"]


@pytest.mark.parametrize(
    "text", [None, "", "2026-02-30", "2026-1-2", "02.01.2026", "202601", "today", "20260102x"]
)
def test_other_texts_are_no_days(text):
    assert parse_days(pa.array([text], pa.string())).to_pylist() == [None]


def test_a_day_has_the_format_and_zone_of_the_settings():
    assert parse_days(pa.array(["02.01.2026", "2026-01-02"]), "%d.%m.%Y").to_pylist() == ["2026-01-02", None]
    late = pa.array(["2026-01-01T17:00:00Z", "2026-01-01 17:00:00"])
    assert parse_days(late, None, "Asia/Shanghai").to_pylist() == ["2026-01-02", "2026-01-01"]
