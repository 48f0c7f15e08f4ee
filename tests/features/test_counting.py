"""Counting values over batches: each distinct value is held once, what is missing is not counted."""

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


def test_values_are_counted_over_batches_and_missing_ones_are_not():
    counts = ValueCounts(FIELDS)
    counts.add(raw([3, 4, None], ["a", "b", "a"]))
    counts.add(raw([-5, -6, 0], ["a", None, None]))
    # 3 and 4 share bucket 3, all negative counts bucket -1.
    assert drained(counts) == {"I": {"3": 2, "-1": 2, "0": 1}, "C": {"a": 3, "b": 1}}


def test_only_fields_whose_ids_are_learnt_have_values_to_count():
    counts = ValueCounts(ALL_KINDS)
    columns = {"I": pa.array([3]), "C": pa.array(["a"]), "V": pa.array([0.5]), "H": pa.array(["a"])}
    counts.add(pa.table({**columns, "Q": pa.array([None], pa.float64())}))
    assert [index for index, _ in counts.drain()] == [0, 1]


def test_a_quantile_is_counted_as_rounded():
    counts = ValueCounts(FieldSet([ALL_KINDS[4]]))
    counts.add(pa.table({"Q": pa.array([12345.0, 12346.0, 12344.0, None, -0.0])}))
    counts.add(pa.table({"Q": pa.array([12343.0, 0.0])}))
    ((_, table),) = counts.drain()
    found = {row["value"]: row["num"] for row in table.to_pylist()}
    # 1.2345 is as near to the one as to the other, and goes to the even digit.
    assert found == {"1.234e+04": 3, "1.235e+04": 1, "0.000e+00": 2}


def test_what_was_handed_over_is_not_counted_again():
    counts = ValueCounts(FIELDS)
    counts.add(raw([1], ["a"]))
    drained(counts)
    counts.add(raw([1], ["b"]))
    assert drained(counts) == {"I": {"1": 1}, "C": {"b": 1}}
    assert drained(counts) == {}


def test_compacting_holds_each_value_once_and_loses_no_count():
    counts = ValueCounts(FIELDS)
    for _ in range(10):
        counts.add(raw([1], ["a"]))
    assert counts.num_held == 20
    counts.compact()
    assert counts.num_held == 2
    assert drained(counts) == {"I": {"1": 10}, "C": {"a": 10}}


def test_batches_without_values_are_no_trouble():
    counts = ValueCounts(FIELDS)
    counts.add(raw([], []))
    counts.add(raw([None], [None]))
    assert drained(counts) == {}
