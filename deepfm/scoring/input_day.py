"""The day that the path of a log names, such as LOG/ds=2026-01-08 given itself."""

import re
from collections.abc import Sequence

from deepfm import storage
from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.day_paths import day_of_name, find_day_paths
from deepfm.click_log.labels_and_days import is_day
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

_DATE = r"(\d{4})(-?)(\d{2})\2(\d{2})"
_PARTITION = re.compile(rf"(?:ds|dt|date|day)={_DATE}")
_PLAIN = re.compile(_DATE)
_YEAR_MONTH_DAY = re.compile(r"(?:.*/)?(?:year=)?(\d{4})/(?:month=)?(\d{1,2})/(?:day=)?(\d{1,2})")


def day_of_path(url: str) -> str | None:
    """Day in the last folders of a path, None if they name none.

    Forms: ds=, dt=, date= or day= with YYYY-MM-DD or YYYYMMDD, also above one more folder such as hour=00;
    a last folder YYYY-MM-DD or YYYYMMDD; and YYYY/MM/DD.
    """
    folders = url.rstrip("/").split("/")
    if not storage.is_folder(url):
        folders = folders[:-1]
    patterns = [(_PARTITION, name) for name in reversed(folders[-2:])]
    for pattern, text in [*patterns, (_PLAIN, folders[-1])]:
        if match := pattern.fullmatch(text):
            year, _, month, day = match.groups()
            break
    else:
        match = _YEAR_MONTH_DAY.fullmatch("/".join(folders[-3:]))
        if match is None:
            return None
        year, month, day = match.groups()
    text = f"{year}-{month:0>2}-{day:0>2}"
    return text if is_day(text) else None


def _day_of_input(url: str, settings: DataSettings) -> str | None:
    if settings.day_from_name is not None and not storage.is_folder(url):
        return day_of_name(url.rsplit("/", 1)[-1], settings.day_from_name, settings.first_day)
    return day_of_path(url)


def _has_days(url: str, settings: DataSettings) -> bool:
    return find_day_paths(url, settings.model_copy(update={"split_files": None})) is not None


def require_day_of_input(url: str, days: Sequence[str], settings: DataSettings) -> None:
    """Raise UserError if the path names a day and one of `days` is another.

    Folders ds= below the path, and a day column, say the day of each row whatever the path is.
    """
    day = _day_of_input(url, settings) if storage.exists(url) else None
    others = [other for other in days if other != day]
    if day is None or not others or settings.day_column is not None or _has_days(url, settings):
        return
    raise UserError(
        f"{url}: expected impressions of {others[0]}, found a folder of {day}; give the folder of "
        f"{others[0]}, or the log above with its ds= folders"
    )


def require_day_of_labels(log: ClickLog, days: Sequence[str]) -> None:
    """Raise UserError if the path names a day that is not in `days`, or only the first of several days."""
    url, day = log.url, day_of_path(log.url)
    if day is None or log.day_paths is not None or log.row_format.day_column is not None:
        return
    if day not in days:
        raise UserError(
            f"{url}: expected labels of {days[0]}, found a folder of {day}; give the folder of {days[0]}, or "
            "the log above with its ds= folders"
        )
    if len(days) > 1 and day == days[0]:
        raise UserError(
            f"{url}: --max-delay needs the days up to {days[-1]}, but the path is the folder of {day} alone; "
            "give the log above with its ds= folders, or --max-delay 0"
        )
