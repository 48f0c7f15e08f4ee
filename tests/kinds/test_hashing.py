"""Hashing of text to buckets: equal on every machine, one hash per distinct value."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from deepfm.kinds import hashing
from deepfm.kinds.hashing import hash64, text_buckets


def buckets(*texts, num_buckets=1000):
    return text_buckets(pa.array(texts, pa.string()), num_buckets).tolist()


def test_the_hash_is_blake2b_of_8_bytes():
    # `printf abc | b2sum -l 64` and the like, with the bytes in reverse order.
    assert hash64("") == int.from_bytes(bytes.fromhex("e4a6a0577479b2b4"), "little")
    assert hash64("abc") == int.from_bytes(bytes.fromhex("d8bb14d833d59559"), "little")
    assert hash64("é") != hash64("e\u0301")


def test_a_bucket_is_the_hash_modulo_the_number_of_buckets():
    texts = ["", "a", "é", "\x00", "a" * 5000, "日本"]
    assert buckets(*texts, num_buckets=7) == [hash64(text) % 7 for text in texts]
    assert buckets(*texts, num_buckets=2**31 - 3) == [hash64(text) % (2**31 - 3) for text in texts]
    assert buckets(*texts, num_buckets=1) == [0] * 6


def test_buckets_are_equal_in_another_process():
    code = (
        "import pyarrow as pa; from deepfm.kinds.hashing import text_buckets as b; "
        "print(b(pa.array(['a', 'b', 'é']), 10**6).tolist())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == f"{buckets('a', 'b', 'é', num_buckets=10**6)}\n"


def test_a_distinct_value_is_hashed_once(monkeypatch):
    hashed = []
    monkeypatch.setattr(hashing, "hash64", lambda text: hashed.append(text) or 5)
    assert buckets("a", "b", "a", None, "b") == [5, 5, 5, 0, 5]
    assert hashed == ["a", "b"]


def test_values_spread_evenly_over_the_buckets():
    counts = np.bincount(buckets(*map(str, range(10_000)), num_buckets=100), minlength=100)
    # 100 expected in each, standard deviation 10.
    assert counts.min() > 50 and counts.max() < 150


def test_buckets_of_no_rows_and_of_nulls_are_int32():
    for texts in ([], [None, None]):
        result = text_buckets(pa.array(texts, pa.string()), 5)
        assert (result.dtype, result.tolist()) == (np.int32, [0] * len(texts))
    assert text_buckets(pa.chunked_array([], pa.string()), 5).tolist() == []


@given(st.lists(st.one_of(st.none(), st.sampled_from("abc")), max_size=9))
def test_a_text_gets_the_same_bucket_alone_and_in_any_chunk(texts):
    chunks = pa.chunked_array([pa.array([text], pa.string()) for text in texts], pa.string())
    assert text_buckets(chunks, 1000).tolist() == buckets(*texts)
    assert buckets(*texts) == [bucket for text in texts for bucket in buckets(text)]
