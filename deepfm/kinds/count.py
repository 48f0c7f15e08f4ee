"""Counts: integers, bucketed by floor(log(x)^2) above 2, as used by Criteo's contest winners."""

from decimal import ROUND_CEILING, Decimal, localcontext

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.kind import (
    FieldEncoder,
    FieldKind,
    FieldSettings,
    FittedField,
    empty_to_null,
    encode_dictionary,
    take_distinct,
)
from deepfm.kinds.literals import MISSING_ID, UNKNOWN_ID
from deepfm.kinds.numbers import parse_integers

NEGATIVE_BUCKET = -1
#: Buckets of x > 2 start here: 0, 1 and 2 have a bucket each (log(3)^2 = 1.2 would collide with x = 1).
FIRST_LOG_BUCKET = 3


def _thresholds() -> np.ndarray:
    """Smallest integers x with log(x)^2 >= k, that is ceil(exp(sqrt(k))), for k = 2, 3, … up to 2^63.

    Comparing with these integers gives the same bucket on every machine; a floating-point log may differ in
    its last bit between processors.
    """
    limits: list[int] = []
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


class CountKind(FieldKind):
    """An integer such as the number of views; its bucket gets an id from the vocabulary."""

    name = "count"
    keys = ("min_count", "max_size")
    uses_counts = has_vocabulary = is_bucketed = can_be_crossed = True
    rejection = "count_not_an_integer"

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        """Dictionary-encoded int64; two spellings of one number are two entries."""
        encoded = encode_dictionary(strings)
        numbers, are_numbers = parse_integers(empty_to_null(encoded.dictionary))
        # The last entry is for missing values.
        is_number = np.append(are_numbers, True)[np.asarray(encoded.indices.fill_null(len(are_numbers)))]
        return pa.DictionaryArray.from_arrays(encoded.indices, numbers), is_number

    def count_texts(self, distinct: pa.Array, counts: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        buckets, indices = np.unique(count_buckets(distinct), return_inverse=True)
        bucket_counts = np.bincount(indices, counts).astype(np.int64)
        return pa.array(buckets).cast(pa.string()), bucket_counts

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        return _CountEncoder(field.name, fitted.values, field.first_known_id)

    def expected(self, field: FieldSettings) -> str:
        return "64-bit integers"

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        buckets = fitted.values.slice(0, 2).to_pylist()
        return [float(bucket_start(int(bucket))) for bucket in buckets], float(2**62)

    def value_name(self, field: FieldSettings, position: int, fitted: FittedField) -> str:
        bucket = self.value_order(position, fitted)
        if bucket == NEGATIVE_BUCKET:
            return "below 0"
        return str(bucket) if bucket < FIRST_LOG_BUCKET else f"from {bucket_start(bucket)}"

    def value_order(self, position: int, fitted: FittedField) -> int:
        return int(fitted.values[position].as_py())


class _CountEncoder:
    """Looks up the id of a bucket in a table."""

    def __init__(self, name: str, values: pa.Array, first_known_id: int):
        self._name = name
        # (largest known bucket + 3,) int32: entry b + 1 is the id of bucket b, the last that of larger ones.
        buckets = np.array([int(value) for value in values.to_pylist()], np.int64)
        self._ids = np.full(buckets.max(initial=-1) + 3, UNKNOWN_ID, np.int32)
        self._ids[buckets + 1] = first_known_id + np.arange(len(buckets))

    def __call__(self, raw: pa.Table, encoded: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [take_distinct(raw.column(self._name), self._distinct_ids, MISSING_ID)]

    def _distinct_ids(self, counts: pa.Array) -> np.ndarray:
        buckets = count_buckets(pc.fill_null(counts, 0))
        return self._ids[np.minimum(buckets + 1, len(self._ids) - 1)]
