"""Files of a click log, and the days to which their folders or names assign them."""

import fnmatch
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from fsspec.utils import infer_compression

from deepfm import storage
from deepfm.click_log.labels_and_days import to_day
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

logger = logging.getLogger(__name__)

#: Keys of day folders: their values must be days. Of other keys they are days if they look like days.
_DAY_KEYS = ("ds", "dt", "date", "day")
_DAY_TEXT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}"
_DAY_FOLDER = re.compile(rf"(?:([A-Za-z_]\w*)=)?({_DAY_TEXT})")
#: Paths of days in several folders, recognized by the first of them.
_NESTED = {re.compile(r"year=[0-9]{4}"): "year=%Y/month=%m/day=%d", re.compile(r"[0-9]{4}"): "%Y/%m/%d"}
#: Hive's folder of the rows whose partition column is null.
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
#: Entries of a folder by which table formats are recognized: its Parquet files include replaced rows.
_TABLE_FORMATS = {"_delta_log": "Delta Lake", ".hoodie": "Apache Hudi", "metadata": "Apache Iceberg"}


@dataclass(frozen=True)
class LogFile:
    """A file of a log, and the day of its folder if it is in a day folder."""

    url: str
    num_bytes: int
    day: str | None = None

    @property
    def is_compressed(self) -> bool:
        """Whether its name ends in .gz or the like: it can only be read from its start."""
        return infer_compression(self.url) is not None


@dataclass(frozen=True)
class DayPaths:
    """Folders or files of each day of a log."""

    by_day: Mapping[str, tuple[str, ...]]

    @property
    def days(self) -> tuple[str, ...]:
        return tuple(sorted(self.by_day))


def find_day_paths(url: str, settings: DataSettings) -> DayPaths | None:
    """Find the days of a log's folders or file names; None if it has none.

    Raise UserError if other files lie beside the days, or if the log is a table of a table format.
    """
    if not storage.is_folder(url):
        return None
    _refuse_table_format(url)
    if settings.split_files is not None:
        return None
    if settings.day_from_name is not None:
        return _days_of_names(url, settings.day_from_name, settings.first_day)
    children = storage.children(url)
    pattern = settings.day_folder or _recognize(url, children)
    if pattern is None:
        return None
    if settings.day_column is not None:
        raise UserError(
            f"{url} has day folders, but day_column is set to {settings.day_column}; remove one of the two"
        )
    by_day: dict[str, list[str]] = {}
    for folder, day in _walk(url, "", pattern.split("/"), pattern):
        by_day.setdefault(day, []).append(folder)
    if not by_day:
        raise UserError(
            f"{url}: expected folders such as {_example_of(pattern)}, found none; check day_folder"
        )
    return DayPaths({day: tuple(folders) for day, folders in sorted(by_day.items())})


def _recognize(url: str, children: Sequence[Mapping[str, Any]]) -> str | None:
    """Pattern of a log's day folders; None if it has none."""
    folders = [child["name"] for child in children if child["is_folder"]]
    for name in folders:
        match = _DAY_FOLDER.fullmatch(name)
        if match and to_day(match[2]):
            prefix = f"{match[1]}=" if match[1] else ""
            return prefix + ("%Y-%m-%d" if "-" in match[2] else "%Y%m%d")
        for first, pattern in _NESTED.items():
            if first.fullmatch(name):
                return pattern
    invalid = [name for name in folders if name.partition("=")[0] in _DAY_KEYS and "=" in name]
    if invalid:
        raise UserError(
            f"{url}/{invalid[0]}: expected a folder such as ds=YYYY-MM-DD; rename it, or set day_folder"
        )
    return None


def _walk(url: str, path: str, parts: Sequence[str], pattern: str) -> Iterator[tuple[str, str]]:
    """Yield (folder, day) of all folders below `url` that fit the pattern."""
    for child in storage.children(f"{url}/{path}" if path else url):
        name = child["name"]
        if not (child["is_folder"] or child["size"]):
            continue
        inner = f"{path}/{name}" if path else name
        if name.endswith(_NULL_PARTITION):
            num_files = len(list_below(f"{url}/{inner}"))
            logger.warning("%s/%s: %d files of rows without a day are skipped", url, inner, num_files)
            continue
        fits = child["is_folder"] and _fits(name, parts[0])
        if not fits or (len(parts) == 1 and _to_day(inner, pattern) is None):
            entry_type = "folder" if child["is_folder"] else "file"
            raise UserError(
                f"{url}: expected all rows inside folders such as {_example_of(pattern)}, found the "
                f"{entry_type} {inner} next to them; move its rows to a day or prefix its name with _"
            )
        if len(parts) > 1:
            yield from _walk(url, inner, parts[1:], pattern)
            continue
        day = _to_day(inner, pattern)
        assert day is not None
        yield f"{url}/{inner}", day


def _fits(name: str, part: str) -> bool:
    try:
        datetime.strptime(name, part)
    except ValueError:
        # The 31st of a month without one is an error of the whole path, reported with it.
        return bool(re.fullmatch(re.sub(r"%[a-zA-Z]", r"\\d+", re.escape(part).replace(r"\%", "%")), name))
    return True


def _to_day(path: str, pattern: str) -> str | None:
    try:
        return datetime.strptime(path, pattern).date().isoformat()
    except ValueError:
        return None


def _example_of(pattern: str) -> str:
    return date(2026, 1, 31).strftime(pattern)


def _days_of_names(url: str, pattern: str, first_day: date) -> DayPaths:
    by_day: dict[str, list[str]] = {}
    for file, _ in list_below(url):
        match = re.search(pattern, file.rsplit("/", 1)[1])
        day = match and (to_day(match[1]) or _numbered_day(match[1], first_day))
        if not day:
            raise UserError(
                f"{file}: expected a file name with a day or its number as {pattern}, as day_from_name says; "
                "prefix the names of other files with _"
            )
        by_day.setdefault(day, []).append(file)
    return DayPaths({day: tuple(files) for day, files in sorted(by_day.items())})


def _numbered_day(text: str, first_day: date) -> str | None:
    return (first_day + timedelta(days=int(text))).isoformat() if re.fullmatch("[0-9]{1,5}", text) else None


def list_files(
    url: str, paths: DayPaths | None, days: Sequence[str] | None
) -> list[tuple[str, int, str | None]]:
    """(URL, bytes, day) of each non-empty file of the days (None: all), sorted by name.

    Raise UserError if a log without days has folders that are not partitions (KEY=VALUE).
    """
    if paths is None:
        _require_partitions(url)
        return [(file, size, None) for file, size in list_below(url)]
    chosen = paths.days if days is None else [day for day in days if day in paths.by_day]
    return [
        (file, size, day) for day in chosen for path in paths.by_day[day] for file, size in list_below(path)
    ]


def list_below(url: str) -> list[tuple[str, int]]:
    """(URL, bytes) of all non-empty files below a folder, or of a file."""
    if not storage.is_folder(url):
        return [(url, storage.num_bytes(url))]
    found: list[tuple[str, int]] = []
    for child in storage.children(url):
        path = f"{url}/{child['name']}"
        if child["is_folder"]:
            found += list_below(path)
        elif child["size"]:
            found.append((path, child["size"]))
    return found


def _require_partitions(url: str) -> None:
    folders = (
        [child["name"] for child in storage.children(url) if child["is_folder"]]
        if storage.is_folder(url)
        else []
    )
    others = [name for name in folders if "=" not in name]
    if others:
        raise UserError(
            f"{url}: expected files, or folders of days such as ds=2026-01-31, found the folder {others[0]}; "
            "set day_folder, move its files up, or prefix its name with _"
        )


def _refuse_table_format(url: str) -> None:
    for name, table_format in _TABLE_FORMATS.items():
        if not storage.exists(f"{url}/{name}"):
            continue
        # Iceberg keeps its files in data/ beside metadata/.
        if name == "metadata" and not any(
            file.endswith((".metadata.json", "version-hint.text")) for file, _ in list_below(f"{url}/{name}")
        ):
            continue
        raise UserError(
            f"{url}: is a table of {table_format}, whose files include rows that were replaced or deleted; "
            "read it with Spark and write the rows that count to a folder of Parquet files: "
            "spark.read.format(…).load(…).write.partitionBy(…).parquet(…)"
        )


def partition_values(path: str) -> dict[str, str | None]:
    """{key: value} of the folders KEY=VALUE in a path; the value is None for Hive's null."""
    values: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        key, separator, value = folder.partition("=")
        if separator and key:
            values[key] = None if value == _NULL_PARTITION else unquote(value)
    return values


def split_of_file(path: str, patterns: Sequence[str]) -> int:
    """Index of the pattern that the end of a path fits, -1 if there is none."""
    for index, pattern in enumerate(patterns):
        if fnmatch.fnmatchcase(path.rsplit("/", 1)[-1], pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}"):
            return index
    return -1


def days_in_path(url: str) -> set[str]:
    """Days that the folders of a path name, such as …/ds=2026-01-02."""
    matches = [_DAY_FOLDER.fullmatch(folder) for folder in url.split("/")]
    return {day for match in matches if match and (day := to_day(match[2]))}
