"""Data YAML of an unknown log, with a comment per choice."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.describe.choose import Choices, FieldChoice, choose_columns
from deepfm.click_log.describe.sample import LogSample, read_sample
from deepfm.field_name import field_name_of
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings, parse_yaml

#: Texts that YAML reads as they are; all others are written as JSON strings, which YAML reads too.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


@dataclass(frozen=True)
class Description:
    """A commented data YAML, and the days of the log as far as they are known."""

    yaml: str
    days: tuple[str, ...]  # of folders
    has_days: bool  # in folders or in a column


def describe_log(url: str, label: str | None = None) -> Description:
    """Describe a log by a data YAML; raise UserError if it cannot be described.

    The YAML is loaded and compared with the headers and schemas of the log before it is returned.
    """
    sample = read_sample(url)
    choices = choose_columns(sample, label)
    text = "\n".join(_lines(sample, choices)) + "\n"
    settings = parse_settings(parse_yaml(text, "description"), DataSettings, f"description of {url}")
    find_click_log(url, settings)
    return Description(text, sample.days, bool(sample.days or choices.day or choices.time))


def _lines(sample: LogSample, choices: Choices) -> Iterator[str]:
    yield f"# Written by `deepfm describe` from {sample.num_rows} rows; the log has {sample.num_files} files."
    yield "# Review each line: a sample does not show every value. Remove fields that are known only after"
    yield "# the impression, such as the time until the click."
    yield f"format: {sample.file_format}"
    yield from _text_lines(sample)
    yield _with_comment(f"label: {_scalar(choices.label)}", choices.label_reason)
    if choices.label_values:
        negative, positive = map(_scalar, choices.label_values)
        yield _with_comment(f"negative: [{negative}]", "no click")
        yield _with_comment(f"positive: [{positive}]", "click")
    yield from _day_lines(sample, choices)
    if choices.null_values:
        texts = ", ".join(json.dumps(text) for text in choices.null_values)
        yield _with_comment(f"null_values: [{texts}]", "texts that mean missing, besides the empty text")
    yield "fields:"
    yield from map(_field_line, choices.fields)
    yield from (
        _comment(f"Ignored: {name or 'a column'}: {reason}.") for name, reason in choices.ignored.items()
    )
    yield _with_comment("max_bad_fraction: 0.01", "largest share of rejected rows")


def _text_lines(sample: LogSample) -> Iterator[str]:
    text = sample.text
    if text is None:
        return
    reason = f"gives {text.share:.1%} of the rows the same number of columns"
    yield _with_comment(f"delimiter: {json.dumps(text.delimiter)}", reason)
    if text.quote:
        yield _with_comment("quote: '\"'", "there are values in quotes")
    if text.multiline:
        yield _with_comment("multiline: true", "there are line breaks in quotes")
    if text.encoding != "utf-8":
        yield _with_comment(f"encoding: {text.encoding}", "the files are not UTF-8; check names with accents")
    reason = "the first line has names" if text.header else "the first line has values; name the columns"
    yield _with_comment(f"header: {str(text.header).lower()}", reason)
    if not text.header:
        yield f"columns: [{', '.join(map(_scalar, sample.columns))}]"


def _day_lines(sample: LogSample, choices: Choices) -> Iterator[str]:
    if sample.days:
        yield _comment(f"Days are the folders of the log, {sample.days[0]} to {sample.days[-1]}.")
    if choices.day:
        yield _with_comment(f"day_column: {_scalar(choices.day[0])}", choices.day[1])
    if choices.time:
        column, time_format, reason = choices.time
        if not (sample.days or choices.day):
            reason += "; also gives the days"
        yield _with_comment(f"time_column: {_scalar(column)}", reason)
        yield f"time_format: {time_format}"
        yield _with_comment("time_zone: UTC", "of times without an offset, and of days and hours")
    if not (sample.days or choices.day or choices.time):
        yield _with_comment("hash_split: {valid: 0.1, test: 0.1}", "there are no days")


def _field_line(choice: FieldChoice) -> str:
    settings = [f"{key}: {_value(value)}" for key, value in choice.settings.items()]
    name = _scalar(choice.column)
    if choice.name != field_name_of(choice.column):
        name = f"{{name: {_scalar(choice.name)}, column: {name}}}"
    return _with_comment(f"  - {{{', '.join([*settings, f'names: [{name}]'])}}}", choice.reason)


def _value(value: Any) -> str:
    return _scalar(value) if isinstance(value, str) else str(value)


def _scalar(text: str) -> str:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if is_plain else json.dumps(text, ensure_ascii=True)


def _with_comment(line: str, comment: str) -> str:
    return f"{line}   {_comment(comment)}"


def _comment(text: str) -> str:
    """A comment of one line; values of the log may contain characters that YAML does not allow."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"# {' '.join(printable.split()):.180}"
