"""Lookup among many known values, with the same result as Arrow's."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.kinds import value_index
from deepfm.kinds.value_index import ValueIndex


@pytest.fixture(scope="module", autouse=True)
def index_every_lookup():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_MIN_INDEXED_VALUES", "_MIN_VALUES_PER_TEXT"):
            patch.setattr(value_index, name, 0)
        yield


TEXTS = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "é", "ab", "\x00", "a" * 99])))


@given(st.sets(st.text(max_size=3), max_size=30), TEXTS)
def test_positions_equal_arrows_index_in(known, texts):
    values = pa.array(sorted(known), pa.string())
    texts = pa.array(texts + sorted(known)[::2], pa.string())
    assert ValueIndex(values).positions(texts).equals(pc.index_in(texts, value_set=values))


@pytest.fixture
def one_hash(monkeypatch):
    """Give all texts the same hash."""
    monkeypatch.setattr(value_index, "_hashes", lambda texts: np.full(len(texts), 7, np.uint64))


def test_a_text_with_the_hash_of_another_is_not_confused_with_it(one_hash):
    index = ValueIndex(pa.array(["known"]))
    assert index.positions(pa.array(["other", "known"])).to_pylist() == [None, 0]


def test_two_known_values_with_one_hash_are_both_found(one_hash):
    index = ValueIndex(pa.array(["a", "b"]))
    assert index.positions(pa.array(["b", "c", "a"])).to_pylist() == [1, None, 0]


def test_values_hashed_in_several_batches_are_all_found(monkeypatch):
    monkeypatch.setattr(value_index, "_HASH_BATCH", 3)
    values = pa.array([f"value {n}" for n in range(10)])
    assert ValueIndex(values).positions(values).to_pylist() == list(range(10))
