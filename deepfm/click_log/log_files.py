"""Files of a click log, and what their paths say."""

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from fsspec.utils import infer_compression

from deepfm import storage
from deepfm.errors import UserError

logger = logging.getLogger(__name__)

#: Hive's folder of the rows whose partition column is null.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


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


def partition_values(path: str) -> dict[str, str | None]:
    """{key: value} of the folders KEY=VALUE in a path; the value is None for Hive's null."""
    values: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        key, separator, value = folder.partition("=")
        if separator and key:
            values[key] = None if value == NULL_PARTITION else unquote(value)
    return values


def split_of_file(path: str, patterns: Sequence[str]) -> int:
    """Index of the pattern that the end of a path fits, -1 if there is none."""
    for index, pattern in enumerate(patterns):
        if fnmatch.fnmatchcase(path.rsplit("/", 1)[-1], pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}"):
            return index
    return -1
