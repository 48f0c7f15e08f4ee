"""Text -> one of N buckets by a hash: the same on every machine and for ever, with nothing to learn."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa


def text_buckets(texts: pa.Array | pa.ChunkedArray, num_buckets: int) -> np.ndarray:
    """(n,) strings -> (n,) int32 from 0 to `num_buckets` - 1, 0 for null.

    A text is hashed once, however often it is there: what a batch costs are its distinct values.
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

    Models hold what was learnt about its results: another hash would give every weight to other values.
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
