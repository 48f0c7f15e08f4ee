"""Rows of text whose quoted values may contain line breaks: a file is read from its start, as one range."""

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from deepfm import storage
from deepfm.click_log.text.ranges import MAX_RANGE_BYTES, make_table
from deepfm.click_log.text.split_line import Dialect, has_open_quote
from deepfm.errors import UserError

#: A longer row of several lines has a quote that is not closed.
_MAX_ROW_CHARS = 4 << 20


def read_records(url: str, day: str | None, dialect: Dialect) -> Iterator[pa.Table]:
    """Yield the rows of a file as tables of LINES_SCHEMA; raise UserError if a quote is never closed."""
    records: list[bytes] = []
    num_bytes = 0
    for record in iterate_records(url, dialect):
        records.append(record)
        num_bytes += len(record)
        if num_bytes >= MAX_RANGE_BYTES:
            yield _table(records, url, day)
            records, num_bytes = [], 0
    if records:
        yield _table(records, url, day)


def _table(records: list[bytes], url: str, day: str | None) -> pa.Table:
    hashed = np.array([record[:-1] for record in records], object)
    return make_table(pa.array(records, pa.binary()), hashed, url, day)


def iterate_records(url: str, dialect: Dialect) -> Iterator[bytes]:
    """Yield each row of a file, which ends with a newline; also headers, blank lines and comments."""
    with storage.open_decompressed(url) as file:
        # Bytes that are not in the encoding come out as they were.
        encoding = "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding
        lines = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="\n")
        yield from _records_of(lines, url, dialect)


def _records_of(lines: Iterator[str], url: str, dialect: Dialect) -> Iterator[bytes]:
    record = ""
    for number, line in enumerate(lines, 1):
        is_comment = not record and dialect.comment is not None and line.startswith(dialect.comment)
        record += line
        if not is_comment and has_open_quote(record, dialect):
            if len(record) > _MAX_ROW_CHARS:
                raise UserError(f"{url}: {_unclosed(record, number)}")
            continue
        yield _encode(record, dialect)
        record = ""
    if record.count("\n") > 1:
        raise UserError(f"{url}: {_unclosed(record, number)}")
    if record:
        yield _encode(record, dialect)


def _encode(record: str, dialect: Dialect) -> bytes:
    text = record if record.endswith("\n") else record + "\n"
    return text.encode(dialect.encoding, errors="surrogateescape")


def _unclosed(record: str, number: int) -> str:
    return (
        f"expected each quote to be closed, found a row that does not end before line {number}, "
        f"{record[:100]!r} …; close the quote, or remove the row"
    )
