"""Delimiter, quotes, header and encoding of text files, found in their first rows."""

import csv
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deepfm import storage
from deepfm.errors import UserError

_MAX_BYTES = 2 << 20  # of each file
_DELIMITERS = ("\t", ",", ";", "|", "\x01", " ")
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")
_NAME = re.compile(r"[^\W\d][\w .:/-]*")


@dataclass(frozen=True)
class TextFormat:
    """How the rows of a text file are written."""

    delimiter: str
    quote: str | None
    header: bool
    multiline: bool
    encoding: str
    share: float  # of rows with the most frequent number of values


def read_text_sample(
    files: Sequence[str], max_rows: int
) -> tuple[TextFormat, tuple[str, ...], list[list[str]]]:
    """(format, names of the columns, rows) of files; names of a log without header are column_1 and so on.

    Raise UserError if the files are not delimited text.
    """
    texts, encoding = _decode([_read_start(file) for file in files])
    _require_delimited(files[0], texts[0])
    delimiter = _find_delimiter(files[0], texts)
    has_quotes = any(_quoted(delimiter).search(text) for text in texts)
    tables = [_parse(text, delimiter, has_quotes=has_quotes)[: max_rows + 1] for text in texts]
    width, num = Counter(len(row) for table in tables for row in table).most_common(1)[0]
    share = num / sum(map(len, tables))
    tables = [[row for row in table if len(row) == width] for table in tables]
    header = _has_header(tables)
    names = tables[0][0] if header else [f"column_{index}" for index in range(1, width + 1)]
    rows = [row for table in tables for row in table[header:]]
    if not rows:
        raise UserError(f"{files[0]}: expected rows, found only a header; describe a log with rows")
    multiline = any("\n" in value for row in rows for value in row)
    quote = '"' if has_quotes else None
    return TextFormat(delimiter, quote, header, multiline, encoding, share), tuple(names), rows


def _read_start(file: str) -> bytes:
    """First bytes of a file, decompressed, without a line that is cut off."""
    with storage.open_decompressed(file) as stream:
        content = stream.read(_MAX_BYTES)
    if len(content) == _MAX_BYTES and b"\n" in content:
        content = content[: content.rindex(b"\n")]
    return content.removeprefix(BOM_UTF8)


def _decode(contents: Sequence[bytes]) -> tuple[list[str], str]:
    try:
        return [content.decode("utf-8") for content in contents], "utf-8"
    except UnicodeDecodeError:
        return [content.decode("latin-1") for content in contents], "latin-1"


def _require_delimited(file: str, text: str) -> None:
    if "\0" in text[:1000]:
        raise UserError(f"{file}: expected UTF-8 text, Parquet or ORC, found a binary file; convert it")
    if text.lstrip().startswith("{"):
        raise UserError(
            f"{file}: expected delimited text, Parquet or ORC, found JSON; write its data YAML by hand from "
            "conf/data/example.yaml, with format: json"
        )


def _find_delimiter(file: str, texts: Sequence[str]) -> str:
    """Delimiter that gives most rows the same number of values, more than one; of equals, the most values."""
    scores = {}
    for delimiter in _DELIMITERS:
        has_quotes = any(_quoted(delimiter).search(text) for text in texts)
        widths = Counter(
            len(row) for text in texts for row in _parse(text[: 1 << 16], delimiter, has_quotes=has_quotes)
        )
        width, num = widths.most_common(1)[0] if widths else (1, 0)
        if width > 1:
            # A blank is often a part of a value, so another delimiter goes first.
            scores[delimiter] = (round(num / sum(widths.values()), 2), delimiter != " ", width)
    if not scores:
        raise UserError(
            f"{file}: expected columns separated by a tab, comma, semicolon, |, ^A or blank, found none; "
            "write its data YAML by hand from conf/data/example.yaml"
        )
    return max(scores, key=lambda delimiter: scores[delimiter])


def _quoted(delimiter: str) -> re.Pattern:
    """A value in quotes between delimiters or line ends."""
    edge = re.escape(delimiter)
    return re.compile(rf'(?:^|{edge})"(?:[^"]|"")*"(?:{edge}|\r?$)', re.MULTILINE)


def _parse(text: str, delimiter: str, *, has_quotes: bool) -> list[list[str]]:
    lines = re.sub(r"\r\n?", "\n", text).splitlines(keepends=True) if "\x0b" not in text else text.split("\n")
    if has_quotes:
        reader = csv.reader(lines, delimiter=delimiter)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return [row for row in reader if row]


def _has_header(tables: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Whether the first row of every file has the same names, which no other row has as values."""
    first = tables[0][0]
    if any(table and table[0] != first for table in tables):
        return False
    if not all(value.strip() and not _NUMBER.fullmatch(value) for value in first):
        return False
    others = [row for table in tables for row in table[1:]]
    if not others:
        return True
    columns = list(zip(*others, strict=True))
    has_number = any(all(_NUMBER.fullmatch(text) for text in column if text) for column in columns)
    # Where all columns are text, only names look like names.
    is_named = all(map(_NAME.fullmatch, first)) and len(set(first)) == len(first)
    return has_number or (
        is_named and not any(name in column for name, column in zip(first, columns, strict=True))
    )
