"""Counts of each field's values, from which vocabularies are fitted."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from deepfm.fields import FieldSet
from deepfm.kinds.dictionary import dictionary_encode
from deepfm.kinds.list import first_values

#: Schema of value counts: index of a field, value, training impressions.
COUNTS = pa.schema([("field", pa.int32()), ("value", pa.string()), ("num", pa.int64())])


def sum_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """Sum tables of COUNTS to one with a row per value."""
    counts = pa.concat_tables([COUNTS.empty_table(), *tables]).group_by(["field", "value"])
    counts = counts.aggregate([("num", "sum")]).select(["field", "value", "num_sum"])
    return counts.rename_columns(COUNTS.names).cast(COUNTS)


class ValueCounts:
    """Counts the values of each field over batches, keeping each distinct value once."""

    def __init__(self, fields: FieldSet):
        self._fields = fields
        self._parts: list[list[pa.Table]] = [[] for _ in fields]
        # By field index, lists only: impressions with more than max_values; their extra values do not count.
        self.num_truncated = {index: 0 for index, field in enumerate(fields) if field.is_list}
        self.num_buffered = 0  # rows of all parts: distinct values, plus those not yet merged

    def update(self, raw: pa.Table, impressions: np.ndarray | None = None) -> None:
        """Count the typed columns of a batch (see parse.ParsedRows.raw). Missing values are not counted.

        `impressions`: (rows,) integers, how many times each row counts; None: once.
        """
        for index, (parts, field) in enumerate(zip(self._parts, self._fields, strict=True)):
            if not (field.is_counted or field.is_list):
                continue
            values, num_truncated = field.behaviour.countable_values(raw.column(field.name), field)
            if field.is_list:
                self.num_truncated[index] += num_truncated
            if not field.is_counted:
                continue
            weights = impressions
            if weights is not None and field.is_list:
                weights = weights[first_values(raw.column(field.name), field.max_values).rows]
            texts, counts = field.behaviour.count_texts(*_count_distinct(values, weights))
            part = pa.table({"value": texts, "num": pa.array(counts, pa.int64())})
            parts.append(part)
            self.num_buffered += part.num_rows

    def compact(self) -> None:
        """Merge equal values of several batches."""
        self._parts = [[_sum_values(parts)] if parts else [] for parts in self._parts]
        self.num_buffered = sum(part.num_rows for parts in self._parts for part in parts)

    def drain(self) -> list[tuple[int, pa.Table]]:
        """Return (field index, table (value, num)) of all counts so far, and reset."""
        self.compact()
        drained = [
            (index, part) for index, parts in enumerate(self._parts) for part in parts if part.num_rows
        ]
        self._parts, self.num_buffered = [[] for _ in self._fields], 0
        return drained


def _count_distinct(
    values: pa.Array | pa.ChunkedArray, weights: np.ndarray | None
) -> tuple[pa.Array, np.ndarray]:
    """(n,) values and (n,) integer weights -> distinct non-null values, and (m,) the count of each."""
    encoded = dictionary_encode(values)
    if weights is not None:
        weights = weights[np.asarray(encoded.indices.is_valid())]
    indices = np.asarray(encoded.indices.drop_null())
    counts = np.bincount(indices, weights, minlength=len(encoded.dictionary)).astype(np.int64, copy=False)
    # A batch may be a slice of a larger one and share its dictionary.
    used = np.flatnonzero(counts)
    return encoded.dictionary.take(pa.array(used)), counts[used]


def _sum_values(parts: list[pa.Table]) -> pa.Table:
    sums = pa.concat_tables(parts).group_by("value").aggregate([("num", "sum")])
    return sums.select(["value", "num_sum"]).rename_columns(["value", "num"])
