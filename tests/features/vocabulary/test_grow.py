"""Growing vocabularies: ids never change, counts accumulate, and each new id has a start id."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.errors import UserError
from deepfm.features.counting import sum_counts
from deepfm.features.encode import Encoder
from deepfm.features.vocabulary.grow import previous_ids
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.kinds.hashing import hash64
from deepfm.kinds.scaling import Moments

C = Field(name="C", kind="category", min_count=2)


def counts(*field_counts):
    rows = [
        (index, value, num) for index, by_value in enumerate(field_counts) for value, num in by_value.items()
    ]
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    kinds = (pa.int32(), pa.string(), pa.int64())
    names = ("field", "value", "num")
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def grow(field, *daily_counts):
    """Fit the vocabularies of consecutive days, each growing from the one before."""
    vocabularies, rare = [], counts()
    for day_counts in daily_counts:
        all_counts = sum_counts([counts(day_counts), rare])
        old = vocabularies[-1] if vocabularies else None
        vocabularies.append(Vocabulary.fit(FieldSet([field]), all_counts, old=old))
        rare = vocabularies[-1].rare(all_counts)
    return vocabularies


def known(vocabulary):
    return dict(zip(vocabulary.values[0].to_pylist(), vocabulary.counts[0].to_pylist(), strict=True))


def test_known_values_keep_their_ids_and_new_ones_follow_by_count():
    _, second = grow(C, {"a": 5, "b": 3}, {"c": 2, "b": 9, "d": 4})
    assert known(second) == {"a": 5, "b": 12, "d": 4, "c": 2}
    assert second.values[0].to_pylist() == ["a", "b", "d", "c"]


def test_a_value_that_is_rare_every_day_becomes_known_by_its_total_count():
    first, second, third = grow(Field(name="C", kind="category", min_count=3), {"a": 1}, {"a": 1}, {"a": 1})
    assert (known(first), known(second), known(third)) == ({}, {}, {"a": 3})


def test_a_known_value_that_no_longer_occurs_stays_known():
    assert known(grow(C, {"a": 2}, {"b": 7}, {})[-1]) == {"a": 2, "b": 7}


def test_a_full_vocabulary_adds_no_values():
    bounded = Field(name="C", kind="category", max_size=2)
    _, second, third = grow(bounded, {"a": 1}, {"b": 3, "c": 9}, {"d": 99})
    assert known(second) == {"a": 1, "c": 9}
    assert known(third) == {"a": 1, "c": 9}


DAILY_COUNTS = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 4), max_size=8), max_size=5
)


@given(DAILY_COUNTS, st.integers(1, 5))
def test_ids_never_change_and_no_count_is_lost(daily_counts, min_count):
    vocabularies = grow(Field(name="C", kind="category", min_count=min_count), {}, *daily_counts)
    for before, after in pairwise(vocabularies):
        assert after.values[0].to_pylist()[: len(before.values[0])] == before.values[0].to_pylist()
    totals = {}
    for day_counts in daily_counts:
        for value, num in day_counts.items():
            totals[value] = totals.get(value, 0) + num
    assert known(vocabularies[-1]) == {value: num for value, num in totals.items() if num >= min_count}


def test_fitted_scalings_and_boundaries_stay():
    fields = FieldSet([Field(name="V", kind="value"), Field(name="Q", kind="quantile", quantile_buckets=2)])
    quantile = {"1.000e+00": 1, "3.000e+00": 1}
    old = Vocabulary.fit(fields, counts({}, quantile), {0: Moments(2, 5.0, 8.0)})
    new = Vocabulary.fit(fields, counts({}, {"9.000e+00": 5}), {0: Moments(9, 1.0, 1.0)}, old)
    assert (new.scalings, new.boundaries, new.num_ids) == (old.scalings, old.boundaries, old.num_ids)


def test_every_id_starts_from_the_previous_id_of_its_value():
    field = Field(name="C", kind="category", unknown_buckets=3)
    old, new = grow(field, {"a": 1}, {"b": 2, "c": 1})
    # Ids 0 to 3 are missing and unknown, 4 is a.
    expected = [0, 1, 2, 3, 4, *(1 + hash64(value) % 3 for value in "bc")]
    (ids,) = previous_ids(old, new)
    assert ids.tolist() == expected
    raw = pa.table({"C": ["a", "b", "c", None, "never seen"]})
    assert ids[Encoder(new).encode(raw)[0]].tolist() == Encoder(old).encode(raw)[0].tolist()


def test_a_vocabulary_that_did_not_grow_from_the_other_is_rejected():
    (old,) = grow(C, {"a": 5, "b": 3})
    (other,) = grow(C, {"a": 3, "b": 5})
    with pytest.raises(UserError, match="field C has ids with another meaning; build it with --grow"):
        previous_ids(old, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([C, Field(name="D", kind="category")], "found new D"),
        ([Field(name="D", kind="category")], "found new D; missing C"),
        ([Field(name="C", kind="category", unknown_buckets=5)], "found changed C"),
    ],
)
def test_different_fields_are_named_in_the_error(fields, message):
    (old,) = grow(C, {"a": 5})
    with pytest.raises(UserError, match=message):
        previous_ids(old, Vocabulary.fit(FieldSet(fields), counts()))
