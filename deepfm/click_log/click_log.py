"""A click log on disk: its files, days and columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from fsspec.utils import infer_compression

from deepfm import storage
from deepfm.click_log.kept_columns import kept_types
from deepfm.click_log.line_columns import split_line
from deepfm.click_log.parquet_log import ParquetFile, check_columns, columns_of, read_footers
from deepfm.click_log.parse import is_day
from deepfm.click_log.row_format import RowFormat
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

_DAY_FOLDER = "ds="
#: Columns of raw rows in addition to those of a Parquet log (and `ds`, which may be a column of the log).
_ADDED_COLUMNS = {"source_file", "row_hash"}


@dataclass(frozen=True)
class ClickLog:
    """Location and row format of a click log, and its days if they are folders."""

    url: str
    row_format: RowFormat
    day_folders: tuple[str, ...] | None  # None: the log is a single file or a folder of files
    column_types: Mapping[str, pa.DataType] = field(default_factory=dict)  # of the first file; Parquet only
    kept_types: Mapping[str, pa.DataType] = field(default_factory=dict)  # of kept columns that are not text

    @property
    def has_days(self) -> bool:
        return self.day_folders is not None or self.row_format.has_days


def find_click_log(
    url: str,
    settings: DataSettings,
    *,
    days: Sequence[str] | None = None,
    labelled: bool = True,
    keep: Sequence[str] = (),
    keep_types: bool = False,
) -> ClickLog:
    """Inspect the log's folders and the start of each file. Raise UserError if they do not match `settings`.

    For a log in day folders only the files of `days` are inspected (None: all). With labelled=False
    (impressions to score) the label column is optional and not read. `keep_types` reads the `keep` columns of
    a Parquet log with their types, else as text.
    """
    if not storage.exists(url):
        raise UserError(f"{url}: expected a click log, but the path does not exist; check --input")
    day_folders = _day_folders(url, settings)
    _require_folders(url, day_folders, days)
    folders_to_read = day_folders and (day_folders if days is None else tuple(days))
    files = [file for file, _, _ in list_files(url, folders_to_read)]
    if not files:
        raise UserError(f"{url}: expected files with rows, found none{_format_days(days)}; check --input")
    types: Mapping[str, pa.DataType] = {}
    footers: list[ParquetFile] = []
    if settings.format == "parquet":
        footers = read_footers(files)
        types, columns, header_line = footers[0].types, columns_of(footers), None
    else:
        columns, header_line = _delimited_columns(files, settings, labelled)
    has_days = day_folders is not None or settings.day_column is not None
    time_column = None if has_days else settings.time_column
    row_format = _row_format(url, settings, columns, header_line, labelled, tuple(keep), time_column)
    if not footers:
        return ClickLog(url, row_format, day_folders, types)
    typed = kept_types(footers, keep) if keep_types else {}
    if typed:
        row_format = replace(row_format, columns=tuple(sorted(row_format.columns_to_parse)))
    check_columns(url, footers, settings, set(row_format.columns), typed)
    return ClickLog(url, row_format, day_folders, types, typed)


def _day_folders(url: str, settings: DataSettings) -> tuple[str, ...] | None:
    """Days of a log's ds= folders, or None if it has none."""
    children = storage.children(url) if storage.is_folder(url) else []
    days = tuple(child["name"].removeprefix(_DAY_FOLDER) for child in children if _is_day_folder(child))
    if not days:
        return None
    if settings.day_column is not None:
        raise UserError(
            f"{url} has ds= folders, but day_column is set to {settings.day_column}; remove one of the two"
        )
    invalid = [day for day in days if not is_day(day)]
    if invalid:
        raise UserError(f"{url}/ds={invalid[0]}: expected a folder ds=YYYY-MM-DD; rename or remove it")
    unexpected = [child for child in children if _may_have_rows(child) and not _is_day_folder(child)]
    if unexpected:
        entry_type = "folder" if unexpected[0]["is_folder"] else "file"
        raise UserError(
            f"{url}: expected all rows inside the ds= folders, found the {entry_type} "
            f"{unexpected[0]['name']} next to them; move its rows into a day folder or prefix its name with _"
        )
    return days


def _is_day_folder(child: Mapping[str, Any]) -> bool:
    return child["is_folder"] and child["name"].startswith(_DAY_FOLDER)


def _may_have_rows(child: Mapping[str, Any]) -> bool:
    """Whether a child is a non-empty file or a folder."""
    return child["is_folder"] or child["size"]


def _require_folders(url: str, day_folders: Sequence[str] | None, days: Sequence[str] | None) -> None:
    missing = sorted(set(days or ()) - set(day_folders)) if day_folders else []
    if day_folders and missing:
        raise UserError(
            f"{url}: expected a folder for every requested day, found none for {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}; it has {day_folders[0]} to {day_folders[-1]}"
        )


def _format_days(days: Sequence[str] | None) -> str:
    return f" for {', '.join(days[:5])}" if days else ""


def _row_format(url, settings, columns, header_line, labelled, keep, time_column) -> RowFormat:
    label = settings.label if labelled else None
    needed = {*settings.field_set.columns, *keep, label, settings.day_column, time_column} - {None}
    absent = sorted(needed - set(columns))
    if absent:
        # With a wrong delimiter or a missing header the "column names" are a whole line or a row's values.
        actual = ", ".join(columns)
        causes = ", header and delimiter" if settings.format == "delimited" and settings.header else ""
        raise UserError(
            f"{url}: expected columns {', '.join(absent)}, found only {actual:.500}; check the names{causes} "
            "in the data YAML, or --keep"
        )
    repeated = sorted(name for name in needed if columns.count(name) > 1)
    if repeated:
        raise UserError(
            f"{url}: expected unique column names, found duplicates of {', '.join(repeated)}; rename them"
        )
    reserved = sorted(needed & _ADDED_COLUMNS)
    if reserved:
        raise UserError(f"{url}: column names {', '.join(reserved)} are reserved; rename them in the log")
    delimited = settings.format == "delimited"
    dotted = sorted(name for name in needed if "." in name)
    if dotted and not delimited:
        # Arrow selects columns by path and reads a dot in a name as access to a nested field.
        raise UserError(f"{url}: expected column names without a dot, found {', '.join(dotted)}; rename them")
    return RowFormat(
        columns=columns if delimited else tuple(sorted(needed)),
        fields=settings.field_set,
        delimiter=settings.delimiter if delimited else None,
        quote=settings.quote,
        header_line=header_line,
        label=label,
        day_column=settings.day_column,
        time_column=time_column,
        time_format=settings.time_format,
        null_values=settings.null_values,
        keep=keep,
    )


def _files(folder: str) -> list[tuple[str, int]]:
    if not storage.is_folder(folder):
        return [(folder, storage.num_bytes(folder))]
    children = storage.children(folder)
    inner = [child["name"] for child in children if child["is_folder"]]
    if inner:
        raise UserError(
            f"{folder}: expected files, or ds= folders with files, found the folder {inner[0]}; move "
            "its files up, or prefix its name with _"
        )
    return [(f"{folder}/{file['name']}", file["size"]) for file in children if file["size"]]


def _delimited_columns(files: list[str], settings: DataSettings, labelled: bool):
    """Columns in file order, and the header line if there is one."""
    zipped = [file for file in files if infer_compression(file) == "zip"]
    if zipped:
        # fsspec would read only one of the files in the archive.
        raise UserError(
            f"{zipped[0]}: .zip is not supported; expected a text file or a .gz file; recompress it"
        )
    if not settings.header:
        _require_no_header(files[0], settings)
        return (settings.columns if labelled else _columns_of_impressions(files[0], settings)), None
    first, header = files[0], storage.first_line(files[0])
    for file in files[1:]:
        if storage.first_line(file) != header:
            raise UserError(
                f"{file}: expected the header of {first}, {header!r:.200}, "
                f"found {storage.first_line(file)!r:.200}; "
                "give all files the same columns in the same order"
            )
    try:
        line = header.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{first}: expected a header in UTF-8, found {header!r:.200}; convert the file"
        ) from error
    return tuple(split_line(line.rstrip("\r"), settings.delimiter, settings.quote)), line


def _require_no_header(file: str, settings: DataSettings) -> None:
    line = storage.first_line(file).decode(errors="replace").rstrip("\r")
    if tuple(split_line(line, settings.delimiter, settings.quote)) == settings.columns:
        raise UserError(
            f"{file}: expected a row on the first line, found the column names; "
            "set header: true and remove columns in the data YAML"
        )


def _columns_of_impressions(file: str, settings: DataSettings) -> tuple[str, ...]:
    """All columns, or all but the label: impressions may have either, and the number of values decides."""
    lines = [line.decode(errors="replace").rstrip("\r") for line in storage.first_lines(file, 100)]
    # Use the most frequent width: one malformed line must not decide how a whole day is read.
    widths = [len(split_line(line, settings.delimiter, settings.quote)) for line in lines]
    full = len(settings.columns)
    if widths.count(full - 1) > widths.count(full):
        return tuple(column for column in settings.columns if column != settings.label)
    return settings.columns


def days_to_read(log: ClickLog, days: Sequence[str] | None) -> Sequence[str] | None:
    """Day folders of `days` (None: all), or None if the log has no day folders and is read whole."""
    _require_folders(log.url, log.day_folders, days)
    return log.day_folders if days is None or log.day_folders is None else days


def list_files(url: str, days: Sequence[str] | None) -> list[tuple[str, int, str | None]]:
    """(URL, bytes, day of its folder) of each non-empty file, sorted by name."""
    folders = [(url, None)] if days is None else [(f"{url}/{_DAY_FOLDER}{day}", day) for day in days]
    return [(file, size, day) for folder, day in folders for file, size in _files(folder)]
