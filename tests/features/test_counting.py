"""Counting of values over batches: each distinct value is kept once, missing ones are not counted."""

import numpy as np
import pyarrow as pa

from deepfm.features.counting import ValueCounts
from deepfm.fields import Field, FieldSet

FIELDS = FieldSet([Field(name="I", kind="count"), Field(name="C", kind="category")])
ALL_KINDS = FieldSet(
    [
        *FIELDS,
        Field(name="V", kind="value"),
        Field(name="H", kind="category", hash_buckets=5),
        Field(name="Q", kind="quantile", quantile_buckets=2),
        Field(name="I_x_C", kind="cross", parts=("I", "C"), buckets=5),
    ]
)


def raw(counts, categories):
    return pa.table({"I": pa.array(counts, pa.int64()), "C": pa.array(categories, pa.string())})


def drained(value_counts):
    return {
        FIELDS[index].name: {row["value"]: row["num"] for row in table.to_pylist()}
        for index, table in value_counts.drain()
    }


def test_values_are_counted_over_batches_without_missing_ones():
    counts = ValueCounts(FIELDS)
    counts.update(raw([3, 4, None], ["a", "b", "a"]))
    counts.update(raw([-5, -6, 0], ["a", None, None]))
    # 3 and 4 share bucket 3, all negative counts bucket -1.
    assert drained(counts) == {"I": {"3": 2, "-1": 2, "0": 1}, "C": {"a": 3, "b": 1}}


def test_only_fields_with_fitted_values_are_counted():
    counts = ValueCounts(ALL_KINDS)
    columns = {"I": pa.array([3]), "C": pa.array(["a"]), "V": pa.array([0.5]), "H": pa.array(["a"])}
    counts.update(pa.table({**columns, "Q": pa.array([None], pa.float64())}))
    assert [index for index, _ in counts.drain()] == [0, 1]


def test_a_quantile_is_counted_after_rounding():
    counts = ValueCounts(FieldSet([ALL_KINDS[4]]))
    counts.update(pa.table({"Q": pa.array([12345.0, 12346.0, 12344.0, None, -0.0])}))
    counts.update(pa.table({"Q": pa.array([12343.0, 0.0])}))
    ((_, table),) = counts.drain()
    value_counts = {row["value"]: row["num"] for row in table.to_pylist()}
    # 1.2345 is a tie and is rounded to the even digit.
    assert value_counts == {"1.234e+04": 3, "1.235e+04": 1, "0.000e+00": 2}


def test_drained_counts_are_not_counted_again():
    counts = ValueCounts(FIELDS)
    counts.update(raw([1], ["a"]))
    drained(counts)
    counts.update(raw([1], ["b"]))
    assert drained(counts) == {"I": {"1": 1}, "C": {"b": 1}}
    assert drained(counts) == {}


def test_compacting_keeps_each_value_once_and_all_counts():
    counts = ValueCounts(FIELDS)
    for _ in range(10):
        counts.update(raw([1], ["a"]))
    assert counts.num_buffered == 20
    counts.compact()
    assert counts.num_buffered == 2
    assert drained(counts) == {"I": {"1": 10}, "C": {"a": 10}}


def test_batches_without_values_count_nothing():
    counts = ValueCounts(FIELDS)
    counts.update(raw([], []))
    counts.update(raw([None], [None]))
    assert drained(counts) == {}


def test_impressions_are_how_often_a_row_counts():
    fields = FieldSet([*FIELDS, Field(name="L", kind="list", max_values=2, separator=" ")])
    lists = pa.array([["x", "y", "z"], None, ["y"]], pa.list_(pa.string()))
    counts = ValueCounts(fields)
    counts.update(raw([3, 4, None], ["a", None, "a"]).append_column("L", lists), np.array([5.0, 2.0, 1.0]))
    actual = {
        index: {row["value"]: row["num"] for row in table.to_pylist()} for index, table in counts.drain()
    }
    assert actual == {0: {"3": 7}, 1: {"a": 6}, 2: {"x": 5, "y": 6}}
    assert counts.num_truncated == {2: 1}
