"""Files of a Parquet or ORC log, read with Arrow: only the named columns, as text, by row groups."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from deepfm import storage
from deepfm.click_log.schema_change import check_lacking
from deepfm.errors import UserError
from deepfm.fields import Field
from deepfm.settings.data import DataSettings
from deepfm.value_text import has_text

#: Rows that a task reads and parses at once.
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class ColumnarFile:
    """Schema and row groups of one file; of an ORC file, its stripes."""

    url: str
    types: Mapping[str, pa.DataType]  # of its columns
    num_groups: int
    num_rows: int
    file_format: str = "parquet"
    int96: frozenset[str] = frozenset()  # columns of 96-bit timestamps

    def type_of(self, name: str) -> pa.DataType | None:
        """Type of a column, or of a part of a struct such as geo.country; None if there is none."""
        return type_at(self.types, name)


class _ParquetReader:
    def __init__(self, file):
        self._file = pq.ParquetFile(file)
        self.schema: pa.Schema = self._file.schema_arrow
        self.num_groups, self.num_rows = self._file.num_row_groups, self._file.metadata.num_rows
        columns = self._file.schema
        leaves = [columns.column(index) for index in range(len(columns))]
        self.int96 = frozenset(leaf.path.split(".")[0] for leaf in leaves if leaf.physical_type == "INT96")

    def batches(self, groups: Sequence[int], names: list[str]) -> Iterator[pa.RecordBatch]:
        yield from self._file.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=names)


class _OrcReader:
    def __init__(self, file):
        self._file = orc.ORCFile(file)
        self.schema: pa.Schema = self._file.schema
        self.num_groups, self.num_rows = self._file.nstripes, self._file.nrows
        self.int96: frozenset[str] = frozenset()

    def batches(self, groups: Sequence[int], names: list[str]) -> Iterator[pa.RecordBatch]:
        for group in groups:
            stripe = pa.Table.from_batches([self._file.read_stripe(group, names)])
            yield from stripe.to_batches(_BATCH_ROWS)


#: First bytes and reader of each format.
_READERS: dict[str, tuple[bytes, type[_ParquetReader | _OrcReader]]] = {
    "parquet": (b"PAR1", _ParquetReader),
    "orc": (b"ORC", _OrcReader),
}


@contextmanager
def open_columnar(url: str, file_format: str) -> Iterator[_ParquetReader | _OrcReader]:
    """Open a file for reading its row groups."""
    with storage.open_file(url) as file:
        yield _READERS[file_format][1](file)


def read_footers(files: Sequence[str], file_format: str = "parquet") -> list[ColumnarFile]:
    """Read schema and row groups; raise UserError if a file has another format or is truncated."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda file: _read_footer(file, file_format), files))


def _read_footer(url: str, file_format: str) -> ColumnarFile:
    mark, name = (_READERS[file_format][0], {"parquet": "Parquet", "orc": "ORC"}[file_format])
    head = storage.read_bytes(url, 4)
    if not head.startswith(mark):
        raise UserError(f"{url}: expected a {name} file, found one that starts with {head!r}; check `format`")
    size = storage.num_bytes(url)
    tail = storage.read_range(url, size - 4, size)
    if file_format == "parquet" and tail != head:
        raise UserError(
            f"{url}: expected a complete Parquet file, found one that ends with {tail!r}; copy it again"
        )
    try:
        with open_columnar(url, file_format) as file:
            types = dict(zip(file.schema.names, file.schema.types, strict=True))
            return ColumnarFile(url, types, file.num_groups, file.num_rows, file_format, file.int96)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{url}: cannot read its schema ({error}); write or copy it again") from error


def type_at(types: Mapping[str, pa.DataType], name: str) -> pa.DataType | None:
    """Type of a column, or of a part of a struct such as geo.country; None if there is none."""
    if name in types or "." not in name:
        return types.get(name)
    key, _, rest = name.partition(".")
    kind = types.get(key)
    if kind is None or not pa.types.is_struct(kind):
        return None
    return type_at({kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}, rest)


def columns_of(files: Sequence[ColumnarFile]) -> tuple[str, ...]:
    """Names of the columns of all files, in the order of their first occurrence, also of parts of structs."""
    return tuple(dict.fromkeys(name for file in files for name in _names_of(file.types)))


def _names_of(types: Mapping[str, pa.DataType]) -> Iterator[str]:
    for name, kind in types.items():
        yield name
        if pa.types.is_struct(kind):
            parts = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
            yield from (f"{name}.{part}" for part in _names_of(parts))


def check_columns(
    url: str,
    files: Sequence[ColumnarFile],
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
        for name in sorted(needed):
            if (kind := file.type_of(name)) is not None:
                _check_type(file, name, kind, fields.get(name))
    if not settings.allow_schema_change:
        _require_same_types(files, needed.union(kept))
    columns = [(file.url, columns_of([file])) for file in files]
    required = {*settings.label_columns, settings.day_column}
    for name in sorted(needed.union(kept)):
        check_lacking(url, columns, name, is_optional=name not in required)


def _check_type(file: ColumnarFile, name: str, kind: pa.DataType, field: Field | None) -> None:
    types = pa.types
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


def _require_same_types(files: Sequence[ColumnarFile], needed: set[str]) -> None:
    first, *others = files
    for file in others:
        for name in sorted(needed):
            types = [one.type_of(name) for one in (first, file)]
            if types[0] != types[1]:
                raise UserError(
                    f"{file.url}: expected column {name} as in {first.url}, {types[0] or 'none'}, found "
                    f"{types[1] or 'none'}; rewrite the files, or allow it by allow_schema_change: true"
                )
