"""Fields with several values per impression: splitting and truncation."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.kinds.list import ARRAY_SEPARATOR, first_values, split_lists


def test_text_is_split_at_separators():
    texts = pa.array(["a b", "c", None, ""])
    assert split_lists(texts, " ").to_pylist() == [["a", "b"], ["c"], None, None]


def test_empty_values_are_dropped():
    assert split_lists(pa.array(["  a   b ", "   "]), " ").to_pylist() == [["a", "b"], None]


def test_a_separator_may_be_long_and_is_not_a_pattern():
    assert split_lists(pa.array(["a.*b.c"]), ".*").to_pylist() == [["a", "b.c"]]


def test_without_a_separator_the_values_come_from_an_array():
    assert split_lists(pa.array([f"a b{ARRAY_SEPARATOR}c"]), "").to_pylist() == [["a b", "c"]]


def test_the_first_values_are_taken_and_truncated_lists_counted():
    first = first_values(pa.array([["a", "b", "c"], None, ["d"], [], ["e", "f"]]), 2)
    assert list(zip(first.rows, first.positions, first.values.to_pylist(), strict=True)) == [
        (0, 0, "a"), (0, 1, "b"), (2, 0, "d"), (4, 0, "e"), (4, 1, "f"),
    ]  # fmt: skip
    assert first.num_truncated == 1


@given(
    st.lists(st.one_of(st.none(), st.lists(st.text(max_size=2), max_size=5)), max_size=6), st.integers(1, 4)
)
@pytest.mark.parametrize("chunked", [False, True])
def test_first_values_equal_those_of_a_loop(chunked, lists, max_values):
    array = pa.array([[], *lists], pa.list_(pa.string())).slice(
        1
    )  # a slice starts after the start of its buffers
    first = first_values(
        pa.chunked_array([array.slice(0, 2), array.slice(2)]) if chunked else array, max_values
    )
    expected = [
        (row, position, value)
        for row, values in enumerate(lists)
        for position, value in enumerate((values or [])[:max_values])
    ]
    assert list(zip(first.rows, first.positions, first.values.to_pylist(), strict=True)) == expected
    assert first.num_truncated == sum(len(values or []) > max_values for values in lists)
