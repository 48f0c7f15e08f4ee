"""Bucketing of counts: floor(log(x)^2) above 2, as used by Criteo's contest winners; else one by one."""

from decimal import ROUND_CEILING, Decimal, localcontext

import numpy as np
import pyarrow as pa

NEGATIVE_BUCKET = -1
#: Buckets of x > 2 start here: 0, 1 and 2 have a bucket each (log(3)^2 = 1.2 would collide with x = 1).
FIRST_LOG_BUCKET = 3


def _thresholds() -> np.ndarray:
    """Smallest integers x with log(x)^2 >= k, that is ceil(exp(sqrt(k))), for k = 2, 3, … up to 2^63.

    Comparing with these integers gives the same bucket on every machine; a floating-point log may differ in
    its last bit between processors.
    """
    limits = []
    with localcontext() as context:
        context.prec = 60
        for k in range(2, 2000):
            limit = int(Decimal(k).sqrt().exp().to_integral_value(ROUND_CEILING))
            if limit >= 2**63:
                return np.array(limits, np.int64)
            limits.append(limit)
    raise AssertionError("the thresholds must cover int64")


_LIMITS = _thresholds()


def count_buckets(counts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) int64 counts without nulls -> (n,) int64 buckets.

    x < 0 -> -1; 0, 1, 2 -> x; x > 2 -> floor(log(x)^2) + 2, which is 3 for x = 3 and 4 and at most 1908.
    """
    values = np.asarray(counts, dtype=np.int64)
    buckets = FIRST_LOG_BUCKET + np.searchsorted(_LIMITS, values, side="right")
    return np.where(values > 2, buckets, np.maximum(values, NEGATIVE_BUCKET))


def bucket_start(bucket: int) -> int:
    """Smallest count of a bucket (for negatives: the largest)."""
    return bucket if bucket <= FIRST_LOG_BUCKET else int(_LIMITS[bucket - FIRST_LOG_BUCKET - 1])
