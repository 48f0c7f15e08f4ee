"""What the files of a Parquet log must be before Spark reads them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings


def require_parquet(files: Sequence[str]) -> None:
    """UserError where a file is none, or is cut."""
    for file in files:
        head = storage.read_bytes(file, 4)
        if head != b"PAR1":
            raise UserError(
                f"{file}: expected a Parquet file, found one that begins with {head!r}; check `format`"
            )
        size = storage.num_bytes(file)
        tail = storage.read_range(file, size - 4, size)
        if tail != head:
            raise UserError(
                f"{file}: expected a whole Parquet file, found one that ends with {tail!r}; copy it anew"
            )


def require_lists(url: str, settings: DataSettings, types: Mapping[str, str]) -> None:
    """UserError where a list is not the array, or the text, that the settings say; `types` are Spark's."""
    for wanted in settings.field_set.raw:
        found = types.get(wanted.column, "")
        if wanted.kind == "list" and found and found.startswith("array") != wanted.is_array:
            expected, remedy = ("an array", "give its") if wanted.is_array else ("text", "remove its")
            raise UserError(
                f"{url}: expected column {wanted.column} to be {expected}, found {found}; "
                f"{remedy} separator in the data YAML"
            )


def require_same_types(
    files: Sequence[str], settings: DataSettings, labelled: bool, keep: Sequence[str]
) -> None:
    """UserError where a file has other columns, or of another type, than the first.

    Spark takes one file's for those of all; one that drifted would fail it in the middle.
    """
    label = settings.label if labelled else None
    used = {*settings.field_set.columns, *keep, label, settings.day_column, settings.time_column} - {None}
    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(_parquet_types, files)
    for file, types in zip(files[1:], others, strict=True):
        for name in sorted(used & {*first, *types}):
            if types.get(name) != first.get(name):
                raise UserError(
                    f"{file}: expected column {name} as in {files[0]}, {first.get(name, 'none')}, found "
                    f"{types.get(name, 'none')}; write its files again with the same columns and types"
                )


def _parquet_types(url: str) -> dict[str, str]:
    with storage.opened(url) as file:
        return {column.name: _plain(column.type) for column in pq.read_schema(file)}


def _plain(kind: pa.DataType) -> str:
    """What Spark sees: pandas and Arrow also note how they held a column in memory."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_plain(kind.value_type)}>"
    return str(kind).removeprefix("large_")
