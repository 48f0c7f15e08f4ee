"""Uses of the columns of an unknown log: label, day, time and fields, each with a reason."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepfm.click_log.describe.column import Column
from deepfm.click_log.describe.sample import LogSample
from deepfm.errors import UserError
from deepfm.field_name import field_name_of
from deepfm.kinds.literals import TIME_NAMES

_LABEL_NAMES = ("label", "click", "clicked", "is_click", "isclick", "clk", "target", "y", "conversion")
#: Values of a label: those that need no setting, then pairs of no click and click.
_PLAIN_LABELS = {"0", "1", "0.0", "1.0", "true", "false"}
_LABEL_PAIRS = (("-1", "1"), ("n", "y"), ("no", "yes"), ("f", "t"))
_CODE = re.compile(r"(^|[_\W])(id|ids|code|type|category|cat|key|hash|zip|class|segment)s?($|[_\W])|Id$|ID$")
_TIME = re.compile(r"time|date|(^|_)(ts|hour|at|dt)($|_)|stamp", re.IGNORECASE)
_DAY = re.compile(r"(^|_)(day|date|ds|dt)($|_)", re.IGNORECASE)
#: At most so many different integers are taken as codes.
_MAX_CODES = 10


@dataclass(frozen=True)
class FieldChoice:
    """Entry of `fields` in a data YAML."""

    settings: dict[str, Any]  # without names
    name: str
    column: str
    reason: str


@dataclass
class Choices:
    """What a data YAML says about the columns of a log, with reasons."""

    label: str
    label_reason: str
    label_values: tuple[str, str] | None = None  # of no click and of a click, if they are not 0 and 1
    day: tuple[str, str] | None = None  # column and reason
    time: tuple[str, str, str] | None = None  # column, format and reason
    fields: list[FieldChoice] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)  # column -> reason
    null_values: tuple[str, ...] = ()


def choose_columns(sample: LogSample, label: str | None = None) -> Choices:
    """Choose the use of every column; `label`: the column of the label, else the likeliest is taken.

    Raise UserError if no column can be a label or no other column can be a field.
    """
    types = sample.types or {}
    columns = [Column(name, values, types.get(name)) for name, values in sample.columns.items()]
    choices = _choose_label(columns, label, sample.url)
    others = [column for column in columns if column.name != choices.label]
    used = _choose_day_and_time(choices, others, has_day_folders=bool(sample.days))
    choices.ignored |= sample.skipped
    taken = {field_name_of(choices.label).lower()}
    for column in others:
        if column.name in used:
            continue
        if reason := _reason_to_ignore(column):
            choices.ignored[column.name] = reason
            continue
        settings, reason = _choose_kind(column, sample)
        name = _free_name(column.name, len(choices.fields) + 1, taken)
        choices.fields.append(FieldChoice(settings, name, column.name, f"{reason}: {column.describe()}"))
    if not choices.fields:
        raise UserError(
            f"{sample.url}: expected columns besides the label {choices.label}, found none usable"
        )
    choices.fields += _time_fields(choices, taken)
    nulls = {text for column in others for text in column.null_values}
    choices.null_values = tuple(sorted(nulls))
    return choices


def _choose_label(columns: Sequence[Column], name: str | None, url: str) -> Choices:
    if name is not None:
        column = next((one for one in columns if one.name == name), None)
        if column is None:
            found = ", ".join(one.name for one in columns)
            raise UserError(f"--label {name}: expected a column of the log, found {found:.300}")
        values = _label_values(column)
        return Choices(name, "as --label says", None if values == ("0", "1") else values)
    candidates = [(column, values) for column in columns if (values := _label_values(column))]
    # A named column first, then a column that has both values, in the order of the file.
    ranked = sorted(candidates, key=lambda one: (_rank(one[0].name), len(one[0].distinct) < 2))
    if not ranked or (_rank(ranked[0][0].name) == len(_LABEL_NAMES) and len(ranked[0][0].distinct) < 2):
        raise UserError(
            f"{url}: expected a column of clicks with 0 and 1, found none; name it by --label, or write "
            "positive and negative by hand as in conf/data/example.yaml"
        )
    column, values = ranked[0]
    others = [one.name for one, _ in ranked[1:4]]
    reason = f"{column.describe()}" + (
        f"; other columns of two values: {', '.join(others)}" if others else ""
    )
    return Choices(column.name, reason, None if values == ("0", "1") else values)


def _rank(name: str) -> int:
    lower = name.lower()
    return _LABEL_NAMES.index(lower) if lower in _LABEL_NAMES else len(_LABEL_NAMES)


def _label_values(column: Column) -> tuple[str, str] | None:
    """Values of no click and of a click; None if the column cannot be a label."""
    texts = set(column.distinct)
    if not texts or len(texts) > 2:
        return None
    if {text.lower() for text in texts} <= _PLAIN_LABELS:
        return "0", "1"
    pair = next((pair for pair in _LABEL_PAIRS if {text.lower() for text in texts} == set(pair)), None)
    if pair is None:
        return None
    negative, positive = (next(text for text in texts if text.lower() == one) for one in pair)
    return negative, positive


def _choose_day_and_time(choices: Choices, columns: Sequence[Column], *, has_day_folders: bool) -> set[str]:
    """Set day and time; return the columns that are used for them."""
    named = [one for one in columns if one.is_day and (_DAY.search(one.name) or not one.is_integer)]
    if named and not has_day_folders:
        choices.day = named[0].name, f"days, {named[0].describe()}"
    times = [one for one in columns if one.time_format]
    # Any number of ten digits may be seconds since 1970, so the name must say so.
    times = [one for one in times if one.time_format == "iso" or _TIME.search(one.name)]
    if times:
        first = times[0]
        assert first.time_format is not None
        choices.time = first.name, first.time_format, f"times, {first.describe()}"
    for column in [*named, *times]:
        used = column.name in {choices.day and choices.day[0], choices.time and choices.time[0]}
        if not used:
            choices.ignored[column.name] = f"a day or time, {column.describe()}"
    return {column.name for column in [*named, *times]}


def _reason_to_ignore(column: Column) -> str | None:
    if not column.distinct:
        return "no value in the sample"
    is_code = not column.is_decimal or (column.is_integer and bool(_CODE.search(column.name)))
    if column.is_unique and is_code and not column.is_array and column.separator is None:
        return "another value in every row, such as an impression's id (useful for --keep and --key)"
    return None


def _choose_kind(column: Column, sample: LogSample) -> tuple[dict[str, Any], str]:
    """Settings of a field, and the reason."""
    if column.is_array:
        return {"kind": "list", "max_values": 8}, "array"
    if column.is_integer and not _is_code(column, has_names=sample.text is None or sample.text.header):
        return {"kind": "count"}, "integers"
    if column.is_integer:
        return {"kind": "category", "min_count": 2}, "integers that look like codes"
    if column.is_decimal:
        return {"kind": "quantile", "quantile_buckets": 20}, "decimal numbers"
    separator = column.separator
    text = sample.text
    if separator and not (text and text.quote is None and text.delimiter in separator):
        return {"kind": "list", "separator": separator, "max_values": 8}, f"lists separated by {separator!r}"
    return {"kind": "category", "min_count": 2}, "text"


def _is_code(column: Column, *, has_names: bool) -> bool:
    if column.is_code or len(column.distinct) <= 2:
        return True
    return has_names and (len(column.distinct) <= _MAX_CODES or bool(_CODE.search(column.name)))


def _free_name(column: str, number: int, taken: set[str]) -> str:
    """Field name of a column that no other field has; Spark's names are case-insensitive."""
    name = field_name_of(column) or f"field_{number}"
    while name.lower() in taken:
        name += "_2"
    taken.add(name.lower())
    return name


def _time_fields(choices: Choices, taken: set[str]) -> Iterator[FieldChoice]:
    if choices.time is None:
        return
    for name in TIME_NAMES:
        if name not in taken and name != "day_part":
            yield FieldChoice({"kind": "time"}, name, name, f"of {choices.time[0]}")
