"""How often each value of a field occurs, which is what ids are learnt from."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from deepfm.click_log.lists import first_values
from deepfm.features.dictionary import dictionary_encoded
from deepfm.features.kinds.count_buckets import count_buckets
from deepfm.features.kinds.quantiles import round_significant
from deepfm.fields import FieldSet

#: What was counted: index of a field, value, training impressions.
COUNTS = pa.schema([("field", pa.int32()), ("value", pa.string()), ("num", pa.int64())])


def summed(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables of COUNTS -> one, a row a value."""
    counts = pa.concat_tables([COUNTS.empty_table(), *tables]).group_by(["field", "value"])
    counts = counts.aggregate([("num", "sum")]).select(["field", "value", "num_sum"])
    return counts.rename_columns(COUNTS.names).cast(COUNTS)


class ValueCounts:
    """Counts values field by field, batch by batch, holding each distinct value once."""

    def __init__(self, fields: FieldSet):
        self._fields = fields
        self._parts: list[list[pa.Table]] = [[] for _ in fields]
        # By index, of lists: impressions that had more than max_values, of which the rest does not count.
        self.num_cut = {at: 0 for at, field in enumerate(fields) if field.kind == "list"}
        self.num_held = 0  # rows of all parts: distinct values and those not yet brought together

    def add(self, raw: pa.Table) -> None:
        """Count the typed columns of a batch (see parse.ParsedRows.raw); missing values are not counted."""
        for index, (parts, field) in enumerate(zip(self._parts, self._fields, strict=True)):
            if field.kind == "list":
                first = first_values(raw.column(field.name), field.max_values)
                self.num_cut[index] += first.num_cut
            if not field.is_counted:
                continue
            distinct, nums = _counted(first.values if field.kind == "list" else raw.column(field.name))
            if field.kind == "count":
                buckets, places = np.unique(count_buckets(distinct), return_inverse=True)
                distinct, nums = pa.array(buckets), np.bincount(places, nums).astype(np.int64)
            texts = round_significant(distinct) if field.kind == "quantile" else distinct.cast(pa.string())
            part = pa.table({"value": texts, "num": pa.array(nums, pa.int64())})
            parts.append(part)
            self.num_held += part.num_rows

    def compact(self) -> None:
        """Bring equal values of several batches together."""
        self._parts = [[_summed(parts)] if parts else [] for parts in self._parts]
        self.num_held = sum(part.num_rows for parts in self._parts for part in parts)

    def drain(self) -> list[tuple[int, pa.Table]]:
        """(field index, table (value, num)) of all that was counted, which is then forgotten."""
        self.compact()
        drained = [
            (index, part) for index, parts in enumerate(self._parts) for part in parts if part.num_rows
        ]
        self._parts, self.num_held = [[] for _ in self._fields], 0
        return drained


def _counted(values: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Distinct values, null not among them, and (m,) how often each occurs."""
    encoded = dictionary_encoded(values)
    nums = np.bincount(encoded.indices.drop_null(), minlength=len(encoded.dictionary))
    # A batch may have been cut out of a larger one, whose dictionary it keeps.
    there = np.flatnonzero(nums)
    return encoded.dictionary.take(pa.array(there)), nums[there]


def _summed(parts: list[pa.Table]) -> pa.Table:
    summed = pa.concat_tables(parts).group_by("value").aggregate([("num", "sum")])
    return summed.select(["value", "num_sum"]).rename_columns(["value", "num"])
