"""Files of a Parquet log, read with Arrow: only the named columns, as text, by ranges of row groups."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.click_log.published_types import to_published
from deepfm.click_log.text_ranges import LogFile, row_hashes
from deepfm.errors import UserError
from deepfm.fields import Field
from deepfm.settings.data import DataSettings
from deepfm.value_text import has_text, to_texts

logger = logging.getLogger(__name__)

#: Rows that a task reads and parses at once.
_BATCH_ROWS = 1 << 16
#: Separates the texts of a row, and stands for a missing one, in the bytes that are hashed.
_HASH_SEPARATOR, _HASH_NULL = "\x1e", "\x00"


@dataclass(frozen=True)
class ParquetFile:
    """Schema and row groups of one file."""

    url: str
    types: Mapping[str, pa.DataType]
    rows_of_groups: tuple[int, ...]
    int96: frozenset[str] = frozenset()  # columns of 96-bit timestamps


@dataclass(frozen=True)
class ParquetRange:
    """Consecutive row groups of one file, and the day of its folder."""

    url: str
    day: str | None
    groups: tuple[int, ...]


def read_footers(files: Sequence[str]) -> list[ParquetFile]:
    """Read schema and row groups; raise UserError if a file is not Parquet or is truncated."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_read_footer, files))


def _read_footer(url: str) -> ParquetFile:
    head = storage.read_bytes(url, 4)
    if head != b"PAR1":
        raise UserError(
            f"{url}: expected a Parquet file, found one that starts with {head!r}; check `format`"
        )
    size = storage.num_bytes(url)
    tail = storage.read_range(url, size - 4, size)
    if tail != head:
        raise UserError(
            f"{url}: expected a complete Parquet file, found one that ends with {tail!r}; copy it again"
        )
    try:
        with storage.open_file(url) as opened:
            file = pq.ParquetFile(opened)
            schema, metadata, columns = file.schema_arrow, file.metadata, file.schema
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{url}: cannot read its schema ({error}); write or copy it again") from error
    rows = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    leaves = [columns.column(index) for index in range(len(columns))]
    int96 = frozenset(leaf.path.split(".")[0] for leaf in leaves if leaf.physical_type == "INT96")
    return ParquetFile(url, dict(zip(schema.names, schema.types, strict=True)), rows, int96)


def columns_of(files: Sequence[ParquetFile]) -> tuple[str, ...]:
    """Names of the columns of all files, in the order of their first occurrence."""
    return tuple(dict.fromkeys(name for file in files for name in file.types))


def check_columns(
    url: str,
    files: Sequence[ParquetFile],
    settings: DataSettings,
    needed: set[str],
    kept: Collection[str] = (),
) -> None:
    """Raise UserError if a needed column has values without a text, or is a list where it should not be.

    A column that some files lack is missing in their rows, which is a warning. `kept` columns are not read
    as text.
    """
    fields = {field.column: field for field in settings.field_set.raw}
    for file in files:
        for name in sorted(needed & set(file.types)):
            _check_type(file, name, fields.get(name))
    if not settings.allow_schema_change:
        _require_same_types(files, needed.union(kept))
    for name in sorted(needed.union(kept) & set(columns_of(files))):
        _check_lacking(url, files, name, is_optional=name not in (settings.label, settings.day_column))


def _check_lacking(url: str, files: Sequence[ParquetFile], name: str, *, is_optional: bool) -> None:
    """Warn if the first files, by name or day, lack a column; raise UserError if later ones do."""
    has_it = [name in file.types for file in files]
    lacking = [file for file, has in zip(files, has_it, strict=True) if not has]
    if not lacking:
        return
    was_removed = not all(has_it[has_it.index(True) :])
    if was_removed or not is_optional:
        raise UserError(
            f"{lacking[-1].url}: expected column {name} as in {files[has_it.index(True)].url}, found only "
            f"{', '.join(lacking[-1].types):.500}; write it, empty if it has no values"
        )
    logger.warning(
        "%s: column %s is missing in %d of %d files, such as %s; its values are missing there",
        url, name, len(lacking), len(files), lacking[0].url,
    )  # fmt: skip


def _check_type(file: ParquetFile, name: str, field: Field | None) -> None:
    kind, types = file.types[name], pa.types
    if types.is_null(kind):
        return
    is_array = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if is_array != (field is not None and field.is_array):
        expected, remedy = ("a single value", "declare it as kind: list")
        if field is not None and field.is_list:
            expected, remedy = ("text", "remove its") if is_array else ("an array", "set its")
            remedy += " separator"
        raise UserError(
            f"{file.url}: expected column {name} to be {expected}, found {kind}; {remedy} in the data YAML"
        )
    if not has_text(kind):
        raise UserError(
            f"{file.url}: expected column {name} to have numbers, text, times or arrays of them, found "
            f"{kind}; remove it from the data YAML, or write its parts as columns"
        )


def _require_same_types(files: Sequence[ParquetFile], needed: set[str]) -> None:
    first, *others = files
    for file in others:
        for name in sorted(needed & {*first.types, *file.types}):
            types = [one.types.get(name) for one in (first, file)]
            if types[0] != types[1]:
                raise UserError(
                    f"{file.url}: expected column {name} as in {first.url}, {types[0] or 'none'}, found "
                    f"{types[1] or 'none'}; rewrite the files, or allow it by allow_schema_change: true"
                )


def split_into_groups(
    files: Sequence[LogFile], footers: Sequence[ParquetFile], range_bytes: int
) -> list[ParquetRange]:
    """Split files into ranges of row groups with about `range_bytes`, at least one row group each."""
    ranges = []
    for file, footer in zip(files, footers, strict=True):
        num_groups = len(footer.rows_of_groups)
        num_ranges = max(1, min(num_groups, file.num_bytes // range_bytes))
        for groups in np.array_split(np.arange(num_groups), num_ranges):
            ranges.append(ParquetRange(file.url, file.day, tuple(groups.tolist())))
    return ranges


@dataclass(frozen=True)
class ParquetColumns:
    """Columns to read, as plain values that are sent to executors."""

    names: tuple[str, ...]
    hashed: tuple[str, ...]  # columns that determine the hash of a row
    kept: Mapping[str, pa.DataType] = field(default_factory=dict)  # read with their types as keep:NAME

    @property
    def schema(self) -> pa.Schema:
        """Schema of the tables of `read_parquet`."""
        day = [] if "ds" in self.names else ["ds"]
        texts = [(name, pa.string()) for name in (*self.names, "source_file", *day)]
        kept = [(f"keep:{name}", kind) for name, kind in self.kept.items()]
        return pa.schema([*texts, *kept, ("row_hash", pa.int64())])


def read_parquet(part: ParquetRange, columns: ParquetColumns) -> Iterator[pa.Table]:
    """Yield the rows of a range as tables of columns.schema; raise UserError if a page is damaged."""
    try:
        with storage.open_file(part.url) as opened:
            file = pq.ParquetFile(opened)
            names = {*columns.names, *columns.kept}
            present = sorted(names & set(file.schema_arrow.names))
            batches = file.iter_batches(_BATCH_ROWS, row_groups=list(part.groups), columns=present)
            for batch in batches:
                yield _raw_table(batch, part, columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{part.url}: cannot read its rows ({error}); write or copy it again") from error


def _raw_table(batch: pa.RecordBatch, part: ParquetRange, columns: ParquetColumns) -> pa.Table:
    num_rows = batch.num_rows
    arrays: dict[str, pa.Array] = {
        name: to_texts(batch.column(name)) if name in batch.schema.names else pa.nulls(num_rows, pa.string())
        for name in columns.names
    }
    hashes = _row_hashes([arrays[name] for name in columns.hashed], num_rows)
    arrays["source_file"] = pa.repeat(pa.scalar(part.url, pa.string()), num_rows)
    # A column ds of the log itself is its content.
    arrays.setdefault("ds", pa.repeat(pa.scalar(part.day, pa.string()), num_rows))
    arrays["row_hash"] = pa.array(hashes)
    for name, kind in columns.kept.items():
        is_present = name in batch.schema.names
        kept = to_published(batch.column(name), kind) if is_present else pa.nulls(num_rows, kind)
        arrays[f"keep:{name}"] = kept
    return pa.table([arrays[name] for name in columns.schema.names], schema=columns.schema)


def _row_hashes(arrays: Sequence[pa.Array], num_rows: int) -> np.ndarray:
    if not arrays or not num_rows:
        return np.zeros(num_rows, np.int64)
    joined = pc.binary_join_element_wise(
        *(pc.cast(column, pa.binary()) for column in arrays),
        _HASH_SEPARATOR.encode(),
        null_handling="replace",
        null_replacement=_HASH_NULL,
    )
    return row_hashes(np.array(joined.to_pylist(), object))
