"""Types of settings that are checked when they are read: formats of times, time zones, patterns, labels."""

import re
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator

_EXAMPLE = datetime(2026, 1, 2, 3, 4, 5, 678900)
_UNITS = ("unix_s", "unix_ms", "unix_us", "unix_ns")


def _require_strptime(text: str) -> str:
    try:
        is_format = "%" in text and bool(datetime.strptime(_EXAMPLE.strftime(text), text))
    except (ValueError, re.error):
        is_format = False
    if not is_format:
        raise ValueError(f"expected a format of Python's strptime, such as %Y%m%d, found {text!r}")
    return text


def _require_time_format(text: str) -> str:
    if text == "iso" or text in _UNITS:
        return text
    if "%" not in text:
        raise ValueError(f"expected iso, {', '.join(_UNITS)}, or a format such as %Y%m%d%H, found {text!r}")
    return _require_strptime(text)


def _require_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"expected the name of a time zone, such as Asia/Shanghai, found {name!r}"
        ) from error
    return name


def _require_group(pattern: str) -> str:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"expected a regular expression, found {pattern!r}: {error}") from error
    if num_groups != 1:
        raise ValueError(
            f"expected a regular expression with one group, such as day_(\\d+), found {pattern!r}"
        )
    return pattern


def _to_text(value: Any) -> Any:
    """Write a label as `value_text.to_texts` does: YAML reads t as text, 1 as a number, true as a boolean."""
    if isinstance(value, (bool, int)):
        return str(int(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else value


Strptime = Annotated[str, AfterValidator(_require_strptime)]
TimeFormat = Annotated[str, AfterValidator(_require_time_format)]
TimeZone = Annotated[str, AfterValidator(_require_zone)]
Pattern = Annotated[str, AfterValidator(_require_group)]
LabelText = Annotated[str, BeforeValidator(_to_text)]
