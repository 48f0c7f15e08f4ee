"""Rows of text whose quoted values may contain line breaks: a file is read from its start, as one range."""

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from deepfm import storage
from deepfm.click_log.text.ranges import MAX_RANGE_BYTES, make_table
from deepfm.click_log.text.split_line import UNIT_SEPARATOR, Dialect
from deepfm.errors import UserError

#: A longer value is a quote that is not closed.
_MAX_VALUE_CHARS = 16 << 20


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
    consumed: list[str] = []
    delimiter = dialect.delimiter or ","

    def follow() -> Iterator[str]:
        for line in lines:
            consumed.append(line)
            yield (line if len(delimiter) == 1 else line.replace(delimiter, UNIT_SEPARATOR))

    reader = csv.reader(
        follow(),
        delimiter=delimiter if len(delimiter) == 1 else UNIT_SEPARATOR,
        quotechar=dialect.quote,
        escapechar=dialect.escape,
        skipinitialspace=dialect.skip_initial_space,
    )
    while True:
        try:
            next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{url}: cannot find the end of row {reader.line_num} ({error})") from error
        text = "".join(consumed)
        consumed.clear()
        if len(text) > _MAX_VALUE_CHARS:
            raise UserError(
                f"{url}: expected rows of a few kB, found one of {len(text) >> 20} MiB that begins with "
                f"{text[:100]!r}; is a quote not closed?"
            )
        yield (text if text.endswith("\n") else text + "\n").encode(
            dialect.encoding, errors="surrogateescape"
        )
