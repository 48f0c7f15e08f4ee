"""Columns of one line of delimited text, with the quotes and escapes of its dialect."""

import csv
import re
from functools import lru_cache
from typing import Protocol

#: Stands for a delimiter of several characters where only one is possible: the ASCII unit separator.
UNIT_SEPARATOR = "\x1f"
csv.field_size_limit(1 << 30)  # the default of 128 KiB is too small


class Dialect(Protocol):
    """What a data YAML says about delimited text; see DataSettings."""

    @property
    def delimiter(self) -> str | None: ...
    @property
    def quote(self) -> str | None: ...
    @property
    def escape(self) -> str | None: ...
    @property
    def multiline(self) -> bool: ...
    @property
    def skip_initial_space(self) -> bool: ...
    @property
    def comment(self) -> str | None: ...
    @property
    def encoding(self) -> str: ...


def split_line(text: str, dialect: Dialect) -> list[str]:
    """Values of one line without its line end; empty if its quotes are malformed."""
    delimiter = dialect.delimiter
    assert delimiter is not None
    if dialect.quote is None or dialect.quote not in text:
        values = text.split(delimiter)
        return [value.lstrip(" ") for value in values] if dialect.skip_initial_space else values
    if dialect.escape is not None:
        return _split_escaped(text, delimiter, dialect.quote, dialect.escape, dialect.skip_initial_space)
    if text.count(dialect.quote) % 2:
        return []  # a part of a row whose value contains a line break
    if len(delimiter) == 1:
        return _split_quoted(text, delimiter, dialect)
    if UNIT_SEPARATOR in text:
        return []
    values = _split_quoted(text.replace(delimiter, UNIT_SEPARATOR), UNIT_SEPARATOR, dialect)
    return [value.replace(UNIT_SEPARATOR, delimiter) for value in values]


def has_open_quote(text: str, dialect: Dialect) -> bool:
    """Whether the last value of a text begins with a quote that is not closed.

    As in `split_line`, a quote within an unquoted value is a character, and escapes apply within quotes only.
    """
    quote, escape, delimiter = dialect.quote, dialect.escape, dialect.delimiter
    if quote is None or delimiter is None or quote not in text:
        return False
    position = 0
    while True:
        while dialect.skip_initial_space and text.startswith(" ", position):
            position += 1
        if text.startswith(quote, position):
            end = _end_of_quotes(text, position + 1, quote, escape)
            if end is None:
                return True
            position = end
        position = text.find(delimiter, position)
        if position < 0:
            return False
        position += len(delimiter)


def _end_of_quotes(text: str, position: int, quote: str, escape: str | None) -> int | None:
    """Position after the quote that closes a value; None if there is none."""
    while True:
        closing = text.find(quote, position)
        escaping = -1 if escape is None else text.find(escape, position)
        if 0 <= escaping < closing or (escaping >= 0 and closing < 0):
            position = escaping + 2
        elif closing < 0:
            return None
        elif text.startswith(quote, closing + 1):
            position = closing + 2
        else:
            return closing + 1


def _split_quoted(text: str, delimiter: str, dialect: Dialect) -> list[str]:
    try:
        rows = list(
            csv.reader(
                [text], delimiter=delimiter, quotechar=dialect.quote, strict=True,
                skipinitialspace=dialect.skip_initial_space,
            )
        )  # fmt: skip
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def _split_escaped(text: str, delimiter: str, quote: str, escape: str, skip_space: bool) -> list[str]:
    value, escaped = _escaped_patterns(delimiter, quote, escape, skip_space)
    values: list[str] = []
    position = 0
    while match := value.match(text, position):
        quoted, plain = match.group("quoted", "plain")
        values.append(plain if quoted is None else escaped.sub(r"\1", quoted))
        if match.end() == len(text):
            return values
        position = match.end() + len(delimiter)
    return []


@lru_cache
def _escaped_patterns(
    delimiter: str, quote: str, escape: str, skip_space: bool
) -> tuple[re.Pattern, re.Pattern]:
    """Patterns of one value up to the delimiter, and of an escaped character, which is its group.

    As in Spark, only a quote and the escape itself are escaped; before other characters it is a character.
    """
    d, q, e = re.escape(delimiter), re.escape(quote), re.escape(escape)
    blanks = " *" if skip_space else ""
    quoted = rf"{q}(?P<quoted>(?:{e}.|{q}{q}|(?!{q}|{e}).)*){q}"
    plain = rf"(?P<plain>(?!{q})(?:(?!{d}).)*)"
    value = re.compile(rf"{blanks}(?:{quoted}|{plain})(?={d}|\Z)", re.DOTALL)
    return value, re.compile(rf"(?:{e}|{q})({q}|{e})" if escape != quote else rf"{q}({q})")
