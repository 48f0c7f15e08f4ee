"""Typed columns to ids."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from deepfm.features.encode import Encoder
from deepfm.features.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet

FIELDS = FieldSet([Field(name="C", kind="category"), Field(name="I", kind="count")])


def vocabulary_of(fields, *values):
    """A vocabulary with the given values of each field, in the order of their ids."""
    return Vocabulary(
        fields,
        [pa.array(known, pa.string()) for known in values],
        [pa.array([1] * len(known), pa.int64()) for known in values],
    )


ENCODER = Encoder(vocabulary_of(FIELDS, ["b", "a"], ["3", "-1", "6"]))


def ids(categories, counts, encoder=ENCODER):
    raw = pa.table({"I": pa.array(counts, pa.int64()), "C": pa.array(categories, pa.string())})
    return [column.tolist() for column in encoder.encode(raw)]


def test_known_values_get_the_ids_after_the_two_reserved_ones():
    assert ids(["b", "a", "b"], [3, -9, 4]) == [[2, 3, 2], [2, 3, 2]]


def test_missing_value_gets_the_missing_id():
    assert ids([None, "a"], [None, None]) == [[0, 3], [0, 0]]


def test_unseen_value_gets_the_unknown_id():
    # 1 and 1000 fall into buckets between and above the known ones.
    assert ids(["c", "A"], [1, 1000]) == [[1, 1], [1, 1]]


def test_a_negative_count_is_told_from_a_missing_one_and_from_zero():
    assert ids(["a"] * 3, [-1, None, 0])[1] == [3, 0, 1]


def test_columns_come_in_the_order_of_the_fields_as_int32():
    columns = ENCODER.encode(pa.table({"I": pa.array([3], pa.int64()), "C": pa.array(["a"])}))
    assert [column.tolist() for column in columns] == [[3], [2]]
    assert [column.dtype for column in columns] == [np.int32, np.int32]


def test_no_rows_give_empty_columns_as_int32():
    columns = ENCODER.encode(pa.table({"I": pa.array([], pa.int64()), "C": pa.array([], pa.string())}))
    assert [(len(column), column.dtype) for column in columns] == [(0, np.int32), (0, np.int32)]


def test_an_encoder_that_knows_nothing_still_tells_missing_from_unknown():
    assert ids(["a", None], [5, None], Encoder(vocabulary_of(FIELDS, [], []))) == [[1, 0], [1, 0]]


def test_the_largest_count_is_encoded():
    last = Encoder(vocabulary_of(FIELDS, [], ["1908"]))
    assert ids(["a"] * 2, [2**63 - 1, -(2**63)], last)[1] == [2, 1]


def test_ids_beyond_a_floats_precision_stay_apart(monkeypatch):
    # A float32 makes 16,777,216 of 16,777,217; no test can afford so many values, so ids begin there.
    monkeypatch.setattr("deepfm.features.encode.FIRST_KNOWN_ID", 2**24)
    high = Encoder(vocabulary_of(FIELDS, ["a", "b"], ["0", "1"]))
    assert ids(["a", "b", None], [0, 1, None], high) == [[2**24, 2**24 + 1, 0]] * 2


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.none(), st.integers(-9, 99)))))
def test_a_row_gets_the_same_ids_alone_and_in_any_chunks(rows):
    alone = [[column[0] for column in ids([category], [count])] for category, count in rows]
    chunked = pa.concat_tables(
        [pa.table({"I": pa.array([], pa.int64()), "C": pa.array([], pa.string())})]
        + [pa.table({"I": pa.array([n], pa.int64()), "C": pa.array([c], pa.string())}) for c, n in rows]
    )
    assert [list(row) for row in zip(*ENCODER.encode(chunked), strict=True)] == alone
