"""Days of a click log, to which the names of its folders or files assign them."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from deepfm import storage
from deepfm.click_log.labels_and_days import to_day
from deepfm.click_log.log_files import NULL_PARTITION, DayPaths, list_below
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

logger = logging.getLogger(__name__)

#: Keys of day folders: their values must be days. Of other keys they are days if they look like days.
_DAY_KEYS = ("ds", "dt", "date", "day")
_DAY_TEXT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}"
_DAY_FOLDER = re.compile(rf"(?:([A-Za-z_]\w*)=)?({_DAY_TEXT})")
#: Paths of days in several folders, recognized by the first of them.
_NESTED = {re.compile(r"year=[0-9]{4}"): "year=%Y/month=%m/day=%d", re.compile(r"[0-9]{4}"): "%Y/%m/%d"}
#: Names of files that are days: their number or their date.
_DAY_NAME = re.compile(rf"day[_-]?[0-9]+|{_DAY_TEXT}")
#: Entries of a folder by which table formats are recognized: its Parquet files include replaced rows.
_TABLE_FORMATS = {"_delta_log": "Delta Lake", ".hoodie": "Apache Hudi", "metadata": "Apache Iceberg"}


def find_day_paths(url: str, settings: DataSettings) -> DayPaths | None:
    """Find the days of a log's folders or file names; None if it has none.

    Raise UserError if other files are next to the days, or if the log is a table of a table format.
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
        _warn_of_names(url, [child["name"] for child in children if not child["is_folder"]])
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


def _warn_of_names(url: str, names: Sequence[str]) -> None:
    """Warn if the files of a log without days are named as days or as parts of a split."""
    if sum(bool(_DAY_NAME.search(name)) for name in names) > 1:
        example = next(name for name in names if _DAY_NAME.search(name))
        logger.warning(
            "%s: files such as %s seem to be days; set day_from_name to split by them, such as %s",
            url, example, "([0-9]{4}-[0-9]{2}-[0-9]{2})" if re.search(_DAY_TEXT, example) else "day_([0-9]+)",
        )  # fmt: skip
    if all(any(part in name.lower() for name in names) for part in ("train", "test")):
        logger.warning(
            "%s: the files seem to be a published split, but their rows are split again; set split_files", url
        )


def _walk(url: str, path: str, parts: Sequence[str], pattern: str) -> Iterator[tuple[str, str]]:
    """Yield (folder, day) of all folders below `url` that fit the pattern."""
    for child in storage.children(f"{url}/{path}" if path else url):
        name = child["name"]
        if not (child["is_folder"] or child["size"]):
            continue
        inner = f"{path}/{name}" if path else name
        if name.endswith(NULL_PARTITION):
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
        day = day_of_name(file.rsplit("/", 1)[1], pattern, first_day)
        if not day:
            raise UserError(
                f"{file}: expected a file name with a day or its number as {pattern}, as day_from_name says; "
                "prefix the names of other files with _"
            )
        by_day.setdefault(day, []).append(file)
    return DayPaths({day: tuple(files) for day, files in sorted(by_day.items())})


def day_of_name(name: str, pattern: str, first_day: date) -> str | None:
    """Day of a file by its name: the group of the pattern is a day, or its number from `first_day` on."""
    match = re.search(pattern, name)
    if not match or match[1] is None:
        return None
    # The year of a date is not a number of a day.
    is_number = re.fullmatch("[0-9]{1,5}", match[1]) and not re.match("[-_/]?[0-9]", name[match.end(1) :])
    return to_day(match[1]) or (
        (first_day + timedelta(days=int(match[1]))).isoformat() if is_number else None
    )


def _refuse_table_format(url: str) -> None:
    for name, table_format in _TABLE_FORMATS.items():
        if not storage.exists(f"{url}/{name}"):
            continue
        # Iceberg keeps its files in data/ next to metadata/.
        if name == "metadata" and not any(
            file.endswith((".metadata.json", "version-hint.text")) for file, _ in list_below(f"{url}/{name}")
        ):
            continue
        raise UserError(
            f"{url}: is a table of {table_format}, whose files include rows that were replaced or deleted; "
            "read it with Spark and write the rows that count to a folder of Parquet files: "
            "spark.read.format(…).load(…).write.partitionBy(…).parquet(…)"
        )
