"""Parsing of integers and decimal numbers, independent of neighbouring values."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.kinds.numbers import parse_decimals, parse_integers


@given(st.text(alphabet="0123456789-+ xXeE._٣", max_size=45))
def test_whether_a_text_is_an_integer_does_not_depend_on_its_neighbours(text):
    alone, is_number = parse_integers(pa.array([text]))
    in_batch, is_number_in_batch = parse_integers(pa.array([text, "not a number"]))
    assert (alone[0], is_number[0]) == (in_batch[0], is_number_in_batch[0])


@pytest.mark.parametrize("zeros", [1, 40, 5000])
def test_leading_zeros_do_not_change_a_number(zeros):
    for neighbour in ("1", "not a number"):
        numbers, _ = parse_integers(pa.array(["0" * zeros + "5", "-" + "0" * zeros + "5", neighbour]))
        assert numbers.to_pylist()[:2] == [5, -5]


@pytest.mark.parametrize(
    "text", ["3", "+3", "3.", "3.0", "3.000", "3e0", "30e-1", "0.3E+1", " 3", "3\t", "003.0"]
)
def test_one_integer_may_be_written_in_several_ways(text):
    for neighbour in ("1", "not a number"):
        numbers, is_number = parse_integers(pa.array([text, "-" + text.strip(" \t+"), neighbour]))
        assert numbers.to_pylist()[:2] == [3, -3]
        assert is_number.tolist()[:2] == [True, True]


@pytest.mark.parametrize(
    "text",
    ["3.5", "1e-1", "1,234", "12 %", "$5", "1e400", "1e999999999", "9223372036854775808", ".", "e5", " ", ""],
)
def test_any_other_text_is_not_an_integer(text):
    assert parse_integers(pa.array([text]))[1].tolist() == [False]


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 9007199254740993])
def test_integers_of_64_bits_are_exact_in_every_notation(number):
    for text in (str(number), f"{number}.0", f" {number} ", f"{number}0e-1"):
        assert parse_integers(pa.array([text]))[0].to_pylist() == [number]


def decimals(*texts):
    numbers, is_number = parse_decimals(pa.array(texts, pa.string()))
    return numbers.to_pylist(), is_number.tolist()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("7", 7),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("-.5", -0.5),
        ("5.", 5),
        ("1e3", 1000),
        ("2E-1", 0.2),
        ("1e+2", 100),
        ("007", 7),
        ("+5", 5),
        (" 5", 5),
        ("5\t", 5),
        (" +.5e1 ", 5),
        ("0.1", 0.1),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
    ],
)
def test_decimal_numbers_with_or_without_exponent_are_read(text, number):
    assert decimals(text) == ([number], [True])


@pytest.mark.parametrize(
    "text",
    ["nan", "NaN", "inf", "-inf", "Infinity", "0x1f", "1_000", "1 000", "1,5", "5\n", "+-5", "++5", "--5",
     " ", "+", "1e", "e5", ".", "-", "", "1.2.3", "1e3.5", "5f", "5d", "٣", "½", "five"],
)  # fmt: skip
def test_any_other_text_is_not_a_decimal_number(text):
    assert decimals(text) == ([None], [False])
    assert decimals("1.5", text, None) == ([1.5, None, None], [True, False, True])


def test_a_number_too_large_for_float64_is_not_finite_and_one_too_small_is_0():
    assert decimals("1e308", "1e309", "-1e309", "9" * 400) == ([1e308] + [None] * 3, [True] + [False] * 3)
    assert decimals("1e-400", "-1e-400") == ([0, 0], [True, True])


def test_a_missing_decimal_is_not_an_error():
    assert decimals(None, "1") == ([None, 1], [True, True])
    assert decimals() == ([], [])


@given(st.text(alphabet="0123456789-+eE.", max_size=12))
def test_whether_a_text_is_a_decimal_does_not_depend_on_its_neighbours(text):
    # For 1e309 Arrow may reject the whole batch.
    (alone,), (is_number,) = decimals(text)
    assert decimals(text, "1e309", "not a number") == ([alone, None, None], [is_number, False, False])
