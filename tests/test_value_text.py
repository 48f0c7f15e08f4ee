"""Text of a value of any type: the same from an Arrow column, a pandas column, and single Python objects."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.value_text import ARRAY_SEPARATOR, has_text, texts_of_series, to_texts

NAN, INF = float("nan"), float("inf")
NINE = datetime(2026, 1, 1, 9)

#: Type, values and their texts.
CASES = [
    (pa.bool_(), [True, False, None], ["1", "0", None]),
    (pa.int8(), [-1, None], ["-1", None]),
    (pa.int64(), [2**63 - 1, 1234567890123456789], ["9223372036854775807", "1234567890123456789"]),
    (pa.uint64(), [2**64 - 1], ["18446744073709551615"]),
    (pa.float64(), [1.0, -0.0, 2.0**62, NAN, None], ["1", "0", str(2**62), None, None]),
    (pa.float64(), [0.1, 1e-7, 1e300, INF, -INF], ["0.1", "1e-7", "1e+300", "inf", "-inf"]),
    (pa.float32(), [0.1, 16777216.0, NAN], ["0.1", "16777216", None]),
    (pa.float16(), [np.float16(0.1), np.float16(2), None], ["0.1", "2", None]),
    (
        pa.decimal128(5, 2),
        [Decimal("1.00"), Decimal("-1.50"), Decimal("0.00"), None],
        ["1", "-1.5", "0", None],
    ),
    (pa.decimal128(20, 10), [Decimal("0.0000000001")], ["0.0000000001"]),
    (pa.decimal256(60, 0), [Decimal(10**59)], [str(10**59)]),
    (pa.date32(), [date(2026, 1, 1), None], ["2026-01-01", None]),
    (pa.date64(), [date(2026, 1, 1)], ["2026-01-01"]),
    (pa.timestamp("s"), [NINE, None], ["2026-01-01 09:00:00", None]),
    (pa.timestamp("ms"), [NINE + timedelta(milliseconds=500)], ["2026-01-01 09:00:00.5"]),
    (pa.timestamp("ns"), [NINE], ["2026-01-01 09:00:00"]),
    (pa.timestamp("us", "UTC"), [NINE], ["2026-01-01 09:00:00"]),
    (pa.timestamp("us", "America/New_York"), [NINE], ["2026-01-01 09:00:00"]),
    (pa.time64("us"), [time(9, 0, 1), time(9, 0, 1, 20)], ["09:00:01", "09:00:01.00002"]),
    (pa.string(), ["", "1.0", "ü", None], ["", "1.0", "ü", None]),
    (pa.large_string(), ["a"], ["a"]),
    (pa.binary(), ["ü".encode(), None], ["ü", None]),
    (pa.binary(2), [b"ab"], ["ab"]),
    (pa.null(), [None], [None]),
    (pa.dictionary(pa.int32(), pa.string()), ["a", None, "a"], ["a", None, "a"]),
    (pa.list_(pa.int64()), [[1, None, 2], [], None], [f"1{ARRAY_SEPARATOR}2", "", None]),
    (pa.large_list(pa.float64()), [[1.0, NAN, 0.5]], [f"1{ARRAY_SEPARATOR}0.5"]),
    (pa.list_(pa.string(), 2), [["a", "b"], ["c", "d"]], [f"a{ARRAY_SEPARATOR}b", f"c{ARRAY_SEPARATOR}d"]),
]


@pytest.mark.parametrize(("kind", "values", "texts"), CASES, ids=[str(kind) for kind, _, _ in CASES])
def test_each_type_has_its_texts(kind, values, texts):
    column = pa.array(values, kind)
    assert has_text(kind)
    assert to_texts(column).to_pylist() == texts
    assert to_texts(column).type == pa.string()
    # A slice, as Arrow's readers return, and chunks.
    assert to_texts(pa.concat_arrays([column, column]).slice(len(values))).to_pylist() == texts
    assert to_texts(pa.chunked_array([column, column])).to_pylist() == 2 * texts


@pytest.mark.parametrize(("kind", "values", "texts"), CASES, ids=[str(kind) for kind, _, _ in CASES])
def test_a_pandas_column_of_the_type_has_the_same_texts(kind, values, texts):
    column = pa.array(values, kind)
    assert texts_of_series(pd.Series(column.to_pandas())).to_pylist() == texts
    if kind != pa.float32():  # Python has no float of 32 bits
        assert texts_of_series(pd.Series(column.to_pylist(), dtype=object)).to_pylist() == texts


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([("a", pa.int64())]),
        pa.map_(pa.string(), pa.int64()),
        pa.list_(pa.list_(pa.int64())),
        pa.list_(pa.struct([("a", pa.int64())])),
        pa.duration("s"),
    ],
)
def test_types_without_a_text_are_refused(kind):
    assert not has_text(kind)
    with pytest.raises(TypeError, match="have no text"):
        to_texts(pa.array([], kind))


def test_one_value_has_one_text_in_every_type():
    ones = [True, 1, 1.0, Decimal("1.00"), np.int8(1), np.float32(1), np.bool_(True), "1", b"1"]
    assert texts_of_series(pd.Series(ones, dtype=object)).to_pylist() == ["1"] * len(ones)


def test_missing_values_of_pandas_are_null():
    missing = [None, NAN, pd.NA, pd.NaT, np.float32("nan")]
    assert texts_of_series(pd.Series(missing, dtype=object)).to_pylist() == [None] * len(missing)
    assert texts_of_series(pd.Series([1, None], dtype="Int64")).to_pylist() == ["1", None]
    assert texts_of_series(pd.Series(["a", None], dtype="category")).to_pylist() == ["a", None]
    assert texts_of_series(pd.Series(["a", None], dtype="string")).to_pylist() == ["a", None]


def test_times_of_several_zones_are_written_in_utc():
    times = [
        pd.Timestamp("2026-01-01 09:00", tz="UTC"),
        pd.Timestamp("2026-01-01 04:00", tz="America/New_York"),
    ]
    assert texts_of_series(pd.Series(times, dtype=object)).to_pylist() == ["2026-01-01 09:00:00"] * 2
    assert (
        texts_of_series(pd.Series([NINE, np.datetime64(NINE)], dtype=object)).to_pylist()
        == ["2026-01-01 09:00:00"] * 2
    )


def test_arrays_in_a_pandas_column_may_be_of_any_sequence():
    arrays = [[1, None], (1.0,), np.array([1]), pd.Series(["1"])]
    assert texts_of_series(pd.Series(arrays, dtype=object)).to_pylist() == ["1"] * len(arrays)


def test_objects_without_a_text_are_refused():
    for value in ({"a": 1}, object(), timedelta(1)):
        with pytest.raises(TypeError, match="have no text"):
            texts_of_series(pd.Series([value], dtype=object))


@given(st.lists(st.none() | st.floats(allow_infinity=False), min_size=1))
def test_the_text_of_a_float_gives_it_back(numbers):
    texts = to_texts(pa.array(numbers, pa.float64())).to_pylist()
    for number, text in zip(numbers, texts, strict=True):
        assert text is None if number is None or np.isnan(number) else float(text) == number
