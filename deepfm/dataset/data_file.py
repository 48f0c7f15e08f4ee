"""One Parquet file of a split: encoded rows in the order of their hash, in a single row group."""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.fields import Field, FieldSet
from deepfm.kinds.cross import splitmix64

#: Rows per file, which is one row group, the unit that a worker reads: 10 MiB of 39 ids in memory.
ROWS_PER_FILE = 65_536


@dataclass(frozen=True)
class WrittenFile:
    """Size and content of a data file."""

    num_bytes: int
    num_rows: int
    num_clicks: int
    digest: int  # the sum over files is the digest of a split
    weight: float  # sum of the weights, which are 1 if there are none
    click_weight: float  # of the rows with a click


def write_data_file(
    url: str, label: str, fields: FieldSet, rows: np.ndarray, weight: str | None = None
) -> WrittenFile:
    """Write (n, 3 + S) int32 rows of label, row hash (two columns) and slots, in the order of their hash.

    With the name of a column of weights, rows are (n, 4 + S): the bits of the float32 weight precede the
    slots.
    """
    rows = rows[_order(rows, is_weighted=weight is not None)]
    labels, slots = rows[:, 0], np.ascontiguousarray(rows[:, 3:].T)
    columns = {label: pa.array(labels, pa.int8())}
    sums = float(len(rows)), float(labels.sum())
    digest = _digest(labels, slots)
    if weight is not None:
        weights, slots = slots[0].view(np.float32), slots[1:]
        columns[weight] = pa.array(weights)
        sums = weights.sum(dtype=np.float64), weights[labels == 1].sum(dtype=np.float64)
    for field in fields:
        dtype = _column_type(field)
        field_slots = slots[fields.slot_ranges[field.name]]
        columns |= {
            name: pa.array(column.view(dtype)) for name, column in zip(field.slots, field_slots, strict=True)
        }
    table = pa.table(columns, schema=arrow_schema(fields, label, weight))
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=len(rows))
    # A retried task writes the same bytes under the same name.
    storage.write_bytes(url, content.getvalue())
    num_clicks = int(labels.sum())
    return WrittenFile(content.tell(), len(rows), num_clicks, int(digest.view(np.int64)), *map(float, sums))


def _order(rows: np.ndarray, *, is_weighted: bool) -> np.ndarray:
    """(n,) order of the rows by their hash."""
    hashes = np.ascontiguousarray(rows[:, 1:3]).view(np.int64)[:, 0]
    if is_weighted:
        # The two rows of an aggregated row have the same hash.
        return np.lexsort((rows[:, 3], rows[:, 0], hashes))
    return np.argsort(hashes, kind="stable")


def _digest(labels: np.ndarray, slots: np.ndarray) -> np.uint64:
    """Hash of (n,) labels and (S, n) slots, or (1 + S, n) weights and slots: a sum of hashes of the rows.

    It is independent of their order.

    Unlike xor, it detects duplicate rows. The row hash mixes a multilinear hash of the row's columns (Lemire
    and Kaser 2014), whose multipliers are the mixed column indices.
    """
    columns = [labels, *slots]
    multipliers = splitmix64(np.arange(len(columns), dtype=np.uint64)) | np.uint64(1)
    total = np.zeros(len(labels), np.uint64)
    for multiplier, column in zip(multipliers, columns, strict=True):
        total += column.astype(np.uint32).astype(np.uint64) * multiplier
    return splitmix64(total).sum(dtype=np.uint64)


def arrow_schema(fields: FieldSet, label: str, weight: str | None) -> pa.Schema:
    """Columns of a split's files: the label, the weight if it is the name of a column, and all slots."""
    columns = [pa.field(label, pa.int8(), nullable=False)]
    if weight is not None:
        columns.append(pa.field(weight, pa.float32(), nullable=False))
    for field in fields:
        dtype = pa.from_numpy_dtype(_column_type(field))
        columns += [pa.field(slot, dtype, nullable=False) for slot in field.slots]
    return pa.schema(columns)


def _column_type(field: Field) -> type:
    """Type of a field's columns; a missing value is NaN, so no column has nulls."""
    return np.float32 if field.is_value else np.int32
