"""A click log on disk: which files, days and columns it has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsspec.utils import infer_compression
from pyspark.sql import DataFrame, SparkSession

from deepfm import storage
from deepfm.click_log.line_columns import split_line
from deepfm.click_log.parquet_log import require_lists, require_parquet, require_same_types
from deepfm.click_log.parse import is_day
from deepfm.click_log.row_format import RowFormat
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

_DAY_FOLDER = "ds="
#: What raw rows have beside the columns of a Parquet log (and `ds`, which may be a column of the log itself).
_ADDED_COLUMNS = {"source_file", "row_hash"}


@dataclass(frozen=True)
class ClickLog:
    """A log that was found: its rows' format, and its days where they are folders."""

    url: str
    row_format: RowFormat
    day_folders: tuple[str, ...] | None  # None: the log is one file or a folder of files
    column_types: Mapping[str, str] = field(default_factory=dict)  # Spark's, of a Parquet log; text has none

    @property
    def has_days(self) -> bool:
        return self.day_folders is not None or self.row_format.has_days


def find_click_log(
    spark: SparkSession,
    url: str,
    settings: DataSettings,
    *,
    days: Sequence[str] | None = None,
    labelled: bool = True,
    keep: Sequence[str] = (),
) -> ClickLog:
    """Look at the log's folders and each file's head; UserError where it is not what `settings` declare.

    Of a log in day folders only the files of `days` are looked at (all where None). With labelled=False
    (impressions to be scored) the label column may be there or not, and is not read.
    """
    if not storage.exists(url):
        raise UserError(f"{url}: expected a click log, found nothing there; check --input")
    day_folders = _day_folders(url, settings)
    _require_folders(url, day_folders, days)
    folders_to_read = day_folders and (day_folders if days is None else tuple(days))
    files = [file for file, _, _ in files_of(url, folders_to_read)]
    if not files:
        raise UserError(f"{url}: expected files with rows, found none{_of_days(days)}; check --input")
    if settings.format == "parquet":
        require_parquet(files)
        types = dict(parquet_rows(spark, url, folders_to_read).dtypes)
        columns, header_line = tuple(types), None
        require_lists(url, settings, types)
        require_same_types(files, settings, labelled, keep)
    else:
        types = {}
        columns, header_line = _delimited_columns(files, settings, labelled)
    has_days = day_folders is not None or settings.day_column is not None
    time_column = None if has_days else settings.time_column
    row_format = _row_format(url, settings, columns, header_line, labelled, tuple(keep), time_column)
    return ClickLog(url, row_format, day_folders, types)


def _day_folders(url: str, settings: DataSettings) -> tuple[str, ...] | None:
    """The days of a log's ds= folders, None where it has none."""
    children = storage.children(url) if storage.is_folder(url) else []
    days = tuple(child["name"].removeprefix(_DAY_FOLDER) for child in children if _is_day_folder(child))
    if not days:
        return None
    if settings.day_column is not None:
        raise UserError(
            f"{url} has ds= folders, but day_column says that column {settings.day_column} has the day; "
            "remove one of the two"
        )
    wrong = [day for day in days if not is_day(day)]
    if wrong:
        raise UserError(f"{url}/ds={wrong[0]}: expected a folder ds=YYYY-MM-DD; rename or remove it")
    beside = [child for child in children if _has_rows(child) and not _is_day_folder(child)]
    if beside:
        what = "folder" if beside[0]["is_folder"] else "file"
        raise UserError(
            f"{url}: expected the rows of a log with ds= folders in these, found the {what} "
            f"{beside[0]['name']} beside them; move its rows into their day's, or let its name begin with _"
        )
    return days


def _is_day_folder(child: Mapping[str, Any]) -> bool:
    return child["is_folder"] and child["name"].startswith(_DAY_FOLDER)


def _has_rows(child: Mapping[str, Any]) -> bool:
    """Whether a file has; a folder may."""
    return child["is_folder"] or child["size"]


def _require_folders(url: str, day_folders: Sequence[str] | None, days: Sequence[str] | None) -> None:
    missing = sorted(set(days or ()) - set(day_folders)) if day_folders else []
    if missing:
        raise UserError(
            f"{url}: expected a folder for every day asked for, found none for {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}; it has {day_folders[0]} to {day_folders[-1]}"
        )


def _of_days(days: Sequence[str] | None) -> str:
    return f" for {', '.join(days[:5])}" if days else ""


def _row_format(url, settings, columns, header_line, labelled, keep, time_column) -> RowFormat:
    label = settings.label if labelled else None
    needed = {*settings.field_set.columns, *keep, label, settings.day_column, time_column} - {None}
    absent = sorted(needed - set(columns))
    if absent:
        # A wrong delimiter or a missing header gives a whole line, or a row's values, for the columns' names.
        found = ", ".join(columns)
        where = ", header and delimiter" if settings.format == "delimited" and settings.header else ""
        raise UserError(
            f"{url}: expected columns {', '.join(absent)}, found only {found:.500}; check the names{where} "
            "in the data YAML, or --keep"
        )
    repeated = sorted(name for name in needed if columns.count(name) > 1)
    if repeated:
        raise UserError(
            f"{url}: expected each column once, found {', '.join(repeated)} again; rename one of them"
        )
    reserved = sorted(needed & _ADDED_COLUMNS)
    if reserved:
        raise UserError(f"{url}: a column cannot be named {', '.join(reserved)} here; rename it in the log")
    delimited = settings.format == "delimited"
    dotted = sorted(name for name in needed if "." in name)
    if dotted and not delimited:
        # PySpark hands rows to Python by their columns' names, of which it takes a dot for a step into one.
        raise UserError(
            f"{url}: expected columns without a dot in their names, found {', '.join(dotted)}; rename them"
        )
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
        keep=keep,
    )


def _folders(url: str, days: Sequence[str] | None) -> list[str]:
    return [url] if days is None else [f"{url}/{_DAY_FOLDER}{day}" for day in days]


def _files(folder: str) -> list[tuple[str, int]]:
    if not storage.is_folder(folder):
        return [(folder, storage.num_bytes(folder))]
    children = storage.children(folder)
    inner = [child["name"] for child in children if child["is_folder"]]
    if inner:
        raise UserError(
            f"{folder}: expected files or ds= folders with files, found the folder {inner[0]} there; move "
            "its files up, or let its name begin with _"
        )
    return [(f"{folder}/{file['name']}", file["size"]) for file in children if file["size"]]


def _delimited_columns(files: list[str], settings: DataSettings, labelled: bool):
    """The columns in the order of the files, and the header line where they have one."""
    zipped = [file for file in files if infer_compression(file) == "zip"]
    if zipped:
        # Of the files in it one alone would be read.
        raise UserError(f"{zipped[0]}: expected a text file or one packed as .gz, found a .zip; pack it anew")
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
            f"{file}: expected rows from the first line on, found the columns' names there; "
            "give header: true in place of columns in the data YAML"
        )


def _columns_of_impressions(file: str, settings: DataSettings) -> tuple[str, ...]:
    """All columns, or all but the label: impressions may come either way, and the width tells which."""
    lines = [line.decode(errors="replace").rstrip("\r") for line in storage.first_lines(file, 100)]
    # The width most lines have: one broken line must not decide how a whole night is read.
    widths = [len(split_line(line, settings.delimiter, settings.quote)) for line in lines]
    full = len(settings.columns)
    if widths.count(full - 1) > widths.count(full):
        return tuple(column for column in settings.columns if column != settings.label)
    return settings.columns


def parquet_rows(spark: SparkSession, url: str, days: Sequence[str] | None) -> DataFrame:
    """A Parquet log as Spark reads it."""
    # Spark takes no basePath that is a file, and needs none but to read the day from the folders.
    reader = spark.read if days is None else spark.read.option("basePath", url)
    return reader.parquet(*_folders(url, days))


def days_to_read(log: ClickLog, days: Sequence[str] | None) -> Sequence[str] | None:
    """The day folders of `days` (all where None); None where the log has no folders: it is read whole."""
    _require_folders(log.url, log.day_folders, days)
    return log.day_folders if days is None or log.day_folders is None else days


def files_of(url: str, days: Sequence[str] | None) -> list[tuple[str, int, str | None]]:
    """(URL, bytes, day of its folder) of each file that is not empty, by name."""
    folders = [(url, None)] if days is None else [(f"{url}/{_DAY_FOLDER}{day}", day) for day in days]
    return [(file, size, day) for folder, day in folders for file, size in _files(folder)]
