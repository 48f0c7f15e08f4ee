"""Vocabulary: value -> id, by count and then by value, from the training rows' counts and nothing else."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.errors import UserError
from deepfm.features.vocabulary import ValueCounts, Vocabulary
from deepfm.fields import Field, FieldSet

FIELDS = FieldSet(
    [Field(name="I", kind="count"), Field(name="C", kind="category", min_count=2)],
)


def counted(*rows):
    """(field, value, num) rows -> the table that `fit` takes."""
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    return pa.table(
        {
            "field": pa.array(columns[0], pa.int32()),
            "value": pa.array(columns[1], pa.string()),
            "num": pa.array(columns[2], pa.int64()),
        }
    )


COUNTS = counted((1, "b", 5), (0, "3", 4), (1, "a", 5), (1, "z", 9), (1, "once", 1), (0, "-1", 6))


def known(vocabulary):
    return [values.to_pylist() for values in vocabulary.values]


def test_the_most_frequent_value_comes_first_and_ties_go_by_value():
    assert known(Vocabulary.fit(FIELDS, COUNTS)) == [["-1", "3"], ["z", "a", "b"]]


def test_ties_go_by_the_bytes_of_the_value():
    one = FieldSet([Field(name="C", kind="category")])
    counts = counted(*[(0, value, 1) for value in ["é", "b", "Z", "a", "10", "9"]])
    assert known(Vocabulary.fit(one, counts)) == [["10", "9", "Z", "a", "b", "é"]]


def test_a_value_below_its_fields_min_count_is_left_out():
    vocabulary = Vocabulary.fit(FIELDS, counted((1, "twice", 2), (1, "once", 1), (0, "7", 1)))
    assert known(vocabulary) == [["7"], ["twice"]]


def test_two_ids_a_field_are_reserved():
    assert Vocabulary.fit(FIELDS, COUNTS).num_ids == (4, 5)
    assert Vocabulary.fit(FIELDS, counted()).num_ids == (2, 2)


@given(st.permutations(COUNTS.to_pylist()))
def test_ids_do_not_depend_on_the_order_of_the_counts(rows):
    vocabulary = Vocabulary.fit(FIELDS, pa.Table.from_pylist(rows, COUNTS.schema))
    assert known(vocabulary) == known(Vocabulary.fit(FIELDS, COUNTS))
    assert vocabulary.fingerprint == Vocabulary.fit(FIELDS, COUNTS).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        Vocabulary.fit(FIELDS, counted((1, "a", 5), (1, "b", 6))),  # another order
        Vocabulary.fit(FIELDS, counted((1, "ab", 5), (1, "", 5))),  # other borders of the same text
        Vocabulary.fit(FIELDS, counted((1, "a", 5), (1, "b", 5), (1, "c", 5))),
        Vocabulary.fit(FIELDS, counted((0, "1", 5), (1, "a", 5), (1, "b", 5))),
        Vocabulary.fit(
            FieldSet([FIELDS[0], Field(name="D", kind="category")]), counted((1, "a", 5), (1, "b", 5))
        ),
    ],
)
def test_whatever_decides_an_id_changes_the_fingerprint(other):
    assert other.fingerprint != Vocabulary.fit(FIELDS, counted((1, "a", 5), (1, "b", 5))).fingerprint


def test_how_often_a_value_was_seen_does_not_change_the_fingerprint():
    more = Vocabulary.fit(FIELDS, counted((1, "a", 50), (1, "b", 50)))
    assert more.fingerprint == Vocabulary.fit(FIELDS, counted((1, "a", 5), (1, "b", 5))).fingerprint


@pytest.fixture
def saved(tmp_path):
    Vocabulary.fit(FIELDS, COUNTS).save(f"file://{tmp_path}")
    return tmp_path


def test_a_loaded_vocabulary_is_the_saved_one(saved):
    vocabulary, loaded = Vocabulary.fit(FIELDS, COUNTS), Vocabulary.load(f"file://{saved}")
    assert loaded.fields == FIELDS
    assert known(loaded) == known(vocabulary)
    assert loaded.num_ids == vocabulary.num_ids
    assert [counts.to_pylist() for counts in loaded.counts] == [[6, 4], [9, 5, 5]]


def test_a_saved_vocabulary_can_be_read_by_people(saved):
    assert pq.read_table(saved / "vocabulary.parquet").to_pylist()[:3] == [
        {"field": "I", "value": "-1", "id": 2, "count": 6},
        {"field": "I", "value": "3", "id": 3, "count": 4},
        {"field": "C", "value": "z", "id": 2, "count": 9},
    ]
    assert [field["num_ids"] for field in json.loads((saved / "vocabulary.json").read_text())["fields"]] == [
        4,
        5,
    ]


def test_an_empty_vocabulary_survives_saving(tmp_path):
    Vocabulary.fit(FIELDS, counted()).save(f"file://{tmp_path}")
    assert Vocabulary.load(f"file://{tmp_path}").num_ids == (2, 2)


def test_a_changed_vocabulary_is_refused(saved):
    table = pq.read_table(saved / "vocabulary.parquet").to_pandas()
    table.loc[table["value"] == "z", "value"] = "y"
    table.to_parquet(saved / "vocabulary.parquet")
    with pytest.raises(UserError, match="the file was changed"):
        Vocabulary.load(f"file://{saved}")


@pytest.mark.parametrize("name", ["vocabulary.json", "vocabulary.parquet"])
def test_a_vocabulary_with_a_part_missing_or_broken_is_refused(saved, name):
    (saved / name).write_bytes(b"{}")
    with pytest.raises(UserError, match="expected a vocabulary"):
        Vocabulary.load(f"file://{saved}")
    os.remove(saved / name)
    with pytest.raises(UserError, match="expected a vocabulary"):
        Vocabulary.load(f"file://{saved}")


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
