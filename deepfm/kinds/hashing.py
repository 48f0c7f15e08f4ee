"""Hashing of text to buckets, equal on every machine and in every version; nothing is fitted."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa


def text_buckets(texts: pa.Array | pa.ChunkedArray, num_buckets: int) -> np.ndarray:
    """(n,) strings -> (n,) int32 from 0 to `num_buckets` - 1, 0 for null.

    Each distinct text is hashed once.
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    distinct = texts.dictionary_encode()
    hashes = np.array([hash64(text) for text in distinct.dictionary.to_pylist()], np.uint64)
    # The last entry is for null.
    buckets = np.append(hashes % np.uint64(num_buckets), np.uint64(0)).astype(np.int32)
    return buckets[np.asarray(distinct.indices.fill_null(len(hashes)))]


def hash64(text: str) -> int:
    """64 bits of BLAKE2b (RFC 7693) of the text in UTF-8, as an unsigned little-endian number.

    Trained models depend on the results: another hash would assign every weight to other values.
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
