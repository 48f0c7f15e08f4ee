"""Checks of the files of a Parquet log before Spark reads them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings


def require_parquet(files: Sequence[str]) -> None:
    """Raise UserError if a file is not Parquet or is truncated."""
    for file in files:
        head = storage.read_bytes(file, 4)
        if head != b"PAR1":
            raise UserError(
                f"{file}: expected a Parquet file, found one that starts with {head!r}; check `format`"
            )
        size = storage.num_bytes(file)
        tail = storage.read_range(file, size - 4, size)
        if tail != head:
            raise UserError(
                f"{file}: expected a complete Parquet file, found one that ends with {tail!r}; copy it again"
            )


def require_lists(url: str, settings: DataSettings, types: Mapping[str, str]) -> None:
    """Raise UserError if a list column is not the array, or text, that the settings declare.

    `types`: Spark type by column name.
    """
    for field in settings.field_set.raw:
        actual = types.get(field.column, "")
        if field.is_list and actual and actual.startswith("array") != field.is_array:
            expected, remedy = ("an array", "set its") if field.is_array else ("text", "remove its")
            raise UserError(
                f"{url}: expected column {field.column} to be {expected}, found {actual}; "
                f"{remedy} separator in the data YAML"
            )


def require_same_types(
    files: Sequence[str], settings: DataSettings, labelled: bool, keep: Sequence[str]
) -> None:
    """Raise UserError if a file's columns or their types differ from the first file's.

    Spark uses the schema of one file for all; a file that differs would fail in the middle of a job.
    """
    label = settings.label if labelled else None
    special = (label, settings.day_column, settings.time_column)
    used = {*settings.field_set.columns, *keep, *(name for name in special if name is not None)}
    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(_parquet_types, files)
    for file, types in zip(files[1:], others, strict=True):
        for name in sorted(used & {*first, *types}):
            if types.get(name) != first.get(name):
                raise UserError(
                    f"{file}: expected column {name} as in {files[0]}, {first.get(name, 'none')}, found "
                    f"{types.get(name, 'none')}; rewrite the files with the same columns and types"
                )


def _parquet_types(url: str) -> dict[str, str]:
    with storage.open_file(url) as file:
        return {column.name: _normalized_type(column.type) for column in pq.read_schema(file)}


def _normalized_type(kind: pa.DataType) -> str:
    """Type as Spark sees it, without the in-memory variants that pandas and Arrow record."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_normalized_type(kind.value_type)}>"
    return str(kind).removeprefix("large_")
