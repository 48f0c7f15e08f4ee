"""Encoding of typed columns to ids."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from deepfm.features.encode import Encoder
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.kinds.cross import cross_ids
from deepfm.kinds.hashing import hash64
from deepfm.kinds.scaling import Scaling

FIELDS = FieldSet([Field(name="C", kind="category"), Field(name="I", kind="count")])


def make_vocabulary(fields, *values):
    """Make a vocabulary with the given values of each field, in the order of their ids."""
    return Vocabulary(
        fields,
        [pa.array(known, pa.string()) for known in values],
        [pa.array([1] * len(known), pa.int64()) for known in values],
    )


ENCODER = Encoder(make_vocabulary(FIELDS, ["b", "a"], ["3", "-1", "6"]))


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


def test_a_negative_count_differs_from_a_missing_one_and_from_zero():
    assert ids(["a"] * 3, [-1, None, 0])[1] == [3, 0, 1]


def test_columns_are_in_the_order_of_the_fields_as_int32():
    columns = ENCODER.encode(pa.table({"I": pa.array([3], pa.int64()), "C": pa.array(["a"])}))
    assert [column.tolist() for column in columns] == [[3], [2]]
    assert [column.dtype for column in columns] == [np.int32, np.int32]


def test_no_rows_give_empty_columns_as_int32():
    columns = ENCODER.encode(pa.table({"I": pa.array([], pa.int64()), "C": pa.array([], pa.string())}))
    assert [(len(column), column.dtype) for column in columns] == [(0, np.int32), (0, np.int32)]


def test_an_empty_vocabulary_still_separates_missing_from_unknown():
    assert ids(["a", None], [5, None], Encoder(make_vocabulary(FIELDS, [], []))) == [[1, 0], [1, 0]]


def test_the_largest_count_is_encoded():
    last = Encoder(make_vocabulary(FIELDS, [], ["1908"]))
    assert ids(["a"] * 2, [2**63 - 1, -(2**63)], last)[1] == [2, 1]


def test_ids_beyond_float32_precision_stay_distinct(monkeypatch):
    # float32 rounds 16,777,217 to 16,777,216; so many values are too slow for a test, so ids start there.
    monkeypatch.setattr("deepfm.fields.FIRST_KNOWN_ID", 2**24)
    high = Encoder(make_vocabulary(FIELDS, ["a", "b"], ["0", "1"]))
    assert ids(["a", "b", None], [0, 1, None], high) == [[2**24, 2**24 + 1, 0]] * 2


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.none(), st.integers(-9, 99)))))
def test_a_row_gets_the_same_ids_alone_and_in_any_chunk(rows):
    alone = [[column[0] for column in ids([category], [count])] for category, count in rows]
    chunked = pa.concat_tables(
        [pa.table({"I": pa.array([], pa.int64()), "C": pa.array([], pa.string())})]
        + [pa.table({"I": pa.array([n], pa.int64()), "C": pa.array([c], pa.string())}) for c, n in rows]
    )
    assert [list(row) for row in zip(*ENCODER.encode(chunked), strict=True)] == alone


def test_a_category_with_hash_buckets_is_hashed_and_has_no_unknown_values():
    hashed = FieldSet([Field(name="C", kind="category", hash_buckets=1000)])
    values = ["a", None, "never seen", "a", "é"]
    (ids,) = Encoder(make_vocabulary(hashed, [])).encode(pa.table({"C": pa.array(values)}))
    expected = [2 + hash64(text) % 1000 if text else 0 for text in values]
    assert (ids.tolist(), ids.dtype) == (expected, np.int32)
    assert len(set(expected)) == 4


def test_unseen_values_are_spread_over_the_unknown_ids_before_the_known_ones():
    spread = FieldSet([Field(name="C", kind="category", unknown_buckets=3)])
    values = ["c", "h", "d", "b", "a", None, "c"]
    (ids,) = Encoder(make_vocabulary(spread, ["b", "a"])).encode(pa.table({"C": pa.array(values)}))
    # Modulo 3 the hashes of c, h and d are 0, 1 and 2.
    assert (ids.tolist(), ids.dtype) == ([1, 2, 3, 4, 5, 0, 1], np.int32)


def test_a_quantile_has_one_id_per_bucket_and_no_unknown_values():
    fields = FieldSet([Field(name="Q", kind="quantile", quantile_buckets=3)])
    no_values = [pa.array([], pa.string())], [pa.array([], pa.int64())]
    vocabulary = Vocabulary(fields, *no_values, boundaries={"Q": (1.5, 3.0)})
    numbers = pa.chunked_array([[1.0, None], [1.5, 1.6, 1e300]], pa.float64())
    (ids,) = Encoder(vocabulary).encode(pa.table({"Q": numbers}))
    assert (ids.tolist(), ids.dtype) == ([2, 0, 2, 3, 4], np.int32)


def test_a_time_has_the_ids_of_its_hour_weekday_and_part_of_the_day():
    fields = FieldSet(
        [
            Field(name=name, kind="time", source="ts", time_format="unix_s")
            for name in ("day_part", "hour", "weekday")
        ]
    )
    encoder = Encoder(make_vocabulary(fields, [], [], []))
    # Thursday 1970-01-01 00:00, Sunday the 4th 23:59:59, missing.
    seconds = pa.array([0, 4 * 86_400 - 1, None], pa.int64())
    columns = encoder.encode(pa.table(dict.fromkeys(fields.names, seconds)))
    assert [ids.tolist() for ids in columns] == [[2, 5, 0], [2, 25, 0], [5, 8, 0]]
    assert {ids.dtype for ids in columns} == {np.dtype(np.int32)}


# --- values and crosses

ALL_KINDS = FieldSet(
    [
        Field(name="V", kind="value"),
        *FIELDS,
        Field(name="C_x_I", kind="cross", parts=("C", "I"), buckets=1000),
    ]
)
VOCABULARY = Vocabulary(
    ALL_KINDS,
    [pa.array(known, pa.string()) for known in ([], ["b", "a"], ["3", "-1", "6"], [])],
    [pa.array([1] * num, pa.int64()) for num in (0, 2, 3, 0)],
    {"V": Scaling(mean=10.0, std=4.0)},
)


def encoded(values, categories, counts):
    raw = pa.table(
        {
            "V": pa.array(values, pa.float64()),
            "C": pa.array(categories, pa.string()),
            "I": pa.array(counts, pa.int64()),
        }
    )
    return dict(zip(ALL_KINDS.names, Encoder(VOCABULARY).encode(raw), strict=True))


def test_a_value_is_scaled_and_a_missing_one_is_nan():
    encoded_columns = encoded([10.0, 12.0, None, -2.0], ["a"] * 4, [3] * 4)["V"]
    np.testing.assert_array_equal(encoded_columns, [0.0, 0.5, np.nan, -3.0])
    assert encoded_columns.dtype == np.float32


def test_a_crossed_id_is_the_hash_of_the_ids_of_its_parts():
    encoded_columns = encoded([None] * 3, ["a", "b", None], [3, 4, -9])
    assert (encoded_columns["C"].tolist(), encoded_columns["I"].tolist()) == ([3, 2, 0], [2, 2, 3])
    expected = cross_ids([np.array([3, 2, 0]), np.array([2, 2, 3])], 1000)
    assert encoded_columns["C_x_I"].tolist() == expected.tolist()
    assert encoded_columns["C_x_I"].dtype == np.int32


def test_unknown_values_share_a_cross_that_differs_from_the_missing_one():
    crossed = encoded([None] * 4, ["never seen", "nor this", None, "a"], [3] * 4)["C_x_I"].tolist()
    assert crossed[0] == crossed[1]
    assert len(set(crossed)) == 3


def test_no_rows_give_empty_columns_of_every_kind():
    encoded_columns = encoded([], [], [])
    assert [(len(column), column.dtype) for column in encoded_columns.values()] == [
        (0, np.float32),
        (0, np.int32),
        (0, np.int32),
        (0, np.int32),
    ]
