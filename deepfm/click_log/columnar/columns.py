"""Rows of Parquet and ORC files as text: only the named columns, by ranges of row groups."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.columnar.files import ColumnarFile, open_columnar, type_at
from deepfm.click_log.columnar.published_types import to_published
from deepfm.click_log.log_files import LogFile
from deepfm.click_log.text.ranges import row_hashes
from deepfm.errors import UserError
from deepfm.value_text import to_texts, with_zone_mark

#: Separates the texts of a row, and stands for a missing one, in the bytes that are hashed.
_HASH_SEPARATOR, _HASH_NULL = "\x1e", "\x00"


@dataclass(frozen=True)
class ColumnarRange:
    """Consecutive row groups of one file, and the day of its folder."""

    url: str
    day: str | None
    groups: tuple[int, ...]


def split_into_groups(
    files: Sequence[LogFile], footers: Sequence[ColumnarFile], range_bytes: int
) -> list[ColumnarRange]:
    """Split files into ranges of row groups with about `range_bytes`, at least one row group each."""
    ranges = []
    for file, footer in zip(files, footers, strict=True):
        num_groups = footer.num_groups
        num_ranges = max(1, min(num_groups, file.num_bytes // range_bytes))
        for groups in np.array_split(np.arange(num_groups), num_ranges):
            ranges.append(ColumnarRange(file.url, file.day, tuple(groups.tolist())))
    return ranges


@dataclass(frozen=True)
class ColumnarColumns:
    """Columns to read, as plain values that are sent to executors."""

    names: tuple[str, ...]
    hashed: tuple[str, ...]  # columns that determine the hash of a row
    times: frozenset[str] = frozenset()  # columns of times, whose texts say whether they are in UTC
    kept: Mapping[str, pa.DataType] = field(default_factory=dict)  # read with their types as keep:NAME
    file_format: str = "parquet"

    @property
    def schema(self) -> pa.Schema:
        """Schema of the tables of `read_columns`."""
        day = [] if "ds" in self.names else ["ds"]
        texts = [(name, pa.string()) for name in (*self.names, "source_file", *day)]
        kept = [(f"keep:{name}", kind) for name, kind in self.kept.items()]
        return pa.schema([*texts, *kept, ("row_hash", pa.int64())])


def read_columns(part: ColumnarRange, columns: ColumnarColumns) -> Iterator[pa.Table]:
    """Yield the rows of a range as tables of columns.schema; raise UserError if a page is damaged."""
    try:
        with open_columnar(part.url, columns.file_format) as file:
            types = dict(zip(file.schema.names, file.schema.types, strict=True))
            names = dict.fromkeys([*columns.names, *columns.kept])
            present = [name for name in names if type_at(types, name) is not None]
            for batch in file.batches(part.groups, present):
                yield _raw_table(batch, part, columns, file.int96)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{part.url}: cannot read its rows ({error}); write or copy it again") from error


def _raw_table(
    batch: pa.RecordBatch, part: ColumnarRange, columns: ColumnarColumns, int96: frozenset[str]
) -> pa.Table:
    num_rows = batch.num_rows
    values = {name: column_at(batch, name) for name in (*columns.names, *columns.kept)}
    arrays = {name: _texts(values[name], num_rows) for name in columns.names}
    hashes = _row_hashes([arrays[name] for name in columns.hashed], num_rows)
    for name in columns.times & set(columns.names):
        column = values[name]
        # Spark writes instants as 96-bit timestamps, which Arrow reads without a zone.
        if column is not None and pa.types.is_timestamp(column.type) and (column.type.tz or name in int96):
            arrays[name] = with_zone_mark(arrays[name])
    arrays["source_file"] = pa.repeat(pa.scalar(part.url, pa.string()), num_rows)
    # A column ds of the log itself is its content.
    arrays.setdefault("ds", pa.repeat(pa.scalar(part.day, pa.string()), num_rows))
    arrays["row_hash"] = pa.array(hashes)
    for name, kind in columns.kept.items():
        kept = values[name]
        arrays[f"keep:{name}"] = pa.nulls(num_rows, kind) if kept is None else to_published(kept, kind)
    return pa.table([arrays[name] for name in columns.schema.names], schema=columns.schema)


def _texts(column: pa.Array | None, num_rows: int) -> pa.Array:
    return pa.nulls(num_rows, pa.string()) if column is None else to_texts(column)


def column_at(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """Return a column, or a part of a struct; None if there is none."""
    if name in batch.schema.names:
        return batch.column(name)
    key, _, rest = name.partition(".")
    if not rest or key not in batch.schema.names:
        return None
    outer = batch.column(key)
    # A part of a missing struct is missing.
    fields = [pc.if_else(outer.is_valid(), part, pa.scalar(None, part.type)) for part in outer.flatten()]
    return column_at(pa.RecordBatch.from_arrays(fields, [field.name for field in outer.type]), rest)


def _row_hashes(texts: Sequence[pa.Array], num_rows: int) -> np.ndarray:
    if not texts or not num_rows:
        return np.zeros(num_rows, np.int64)
    joined = pc.binary_join_element_wise(
        *(pc.cast(column, pa.binary()) for column in texts),
        _HASH_SEPARATOR.encode(),
        null_handling="replace",
        null_replacement=_HASH_NULL,
    )
    return row_hashes(np.array(joined.to_pylist(), object))
