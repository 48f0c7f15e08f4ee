"""Places among many known values: those that Arrow finds, without a new table for every batch."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.features.vocabulary import value_index
from deepfm.features.vocabulary.value_index import ValueIndex


@pytest.fixture(scope="module", autouse=True)
def every_text_is_searched():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_WORTH_AN_INDEX", "_WORTH_A_SEARCH"):
            patch.setattr(value_index, name, 0)
        yield


TEXTS = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "é", "ab", "\x00", "a" * 99])))


@given(st.sets(st.text(max_size=3), max_size=30), TEXTS)
def test_finds_what_arrow_finds(known, texts):
    values = pa.array(sorted(known), pa.string())
    asked = pa.array(texts + sorted(known)[::2], pa.string())
    assert ValueIndex(values).places(asked).equals(pc.index_in(asked, value_set=values))


@pytest.fixture
def one_hash(monkeypatch):
    """All texts have the same hash."""
    monkeypatch.setattr(value_index, "_hashes", lambda texts: np.full(len(texts), 7, np.uint64))


def test_the_text_decides_where_another_one_has_its_hash(one_hash):
    index = ValueIndex(pa.array(["known"]))
    assert index.places(pa.array(["other", "known"])).to_pylist() == [None, 0]


def test_two_known_values_of_one_hash_are_both_found(one_hash):
    index = ValueIndex(pa.array(["a", "b"]))
    assert index.places(pa.array(["b", "c", "a"])).to_pylist() == [1, None, 0]


def test_values_hashed_in_several_pieces_are_all_found(monkeypatch):
    monkeypatch.setattr(value_index, "_HASHED", 3)
    values = pa.array([f"value {n}" for n in range(10)])
    assert ValueIndex(values).places(values).to_pylist() == list(range(10))
