"""Byte ranges of text files and the lines they contain: each line of a file is in exactly one range.

Workers read their ranges without Spark: Spark passes lines to Python through the JVM heap and a socket, with
a copy each, which takes as long as parsing them.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from deepfm import storage
from deepfm.click_log.log_files import LogFile
from deepfm.errors import UserError

#: Bytes that a worker parses at once, 130,000 rows of Criteo: enough to make Arrow's fixed costs negligible.
MAX_RANGE_BYTES = 32 << 20
#: Minimum size: less is not worth a separate task.
MIN_RANGE_BYTES = 4 << 20
#: Read size when searching for the end of a range's last line.
_STEP_BYTES = 64 << 10
#: Arrow uses 32-bit offsets for the lines of a table.
_MAX_TABLE_BYTES = 2**31 - 1
#: The columns of `lines_table`. A line includes its newline; row_hash is a 64-bit hash without it.
LINES_SCHEMA = pa.schema(
    [("line", pa.binary()), ("source_file", pa.string()), ("ds", pa.string()), ("row_hash", pa.int64())]
)


@dataclass(frozen=True)
class TextRange:
    """The lines of a file that start in the bytes [start, stop); None: end of the file."""

    url: str
    day: str | None
    start: int
    stop: int | None


def split_into_ranges(files: Sequence[LogFile], range_bytes: int, *, whole: bool = False) -> list[TextRange]:
    """Split files into ranges of at most `range_bytes`; compressed files and, with `whole`, all are one."""
    ranges = []
    for file in files:
        if file.is_compressed or whole:
            ranges.append(TextRange(file.url, file.day, 0, None))
            continue
        for start in range(0, file.num_bytes, range_bytes):
            stop = min(start + range_bytes, file.num_bytes)
            ranges.append(TextRange(file.url, file.day, start, stop))
    return ranges


def read_tables(text_range: TextRange) -> Iterator[pa.Table]:
    """Yield a range's lines as tables of LINES_SCHEMA: at most one table unless the file is compressed.

    Raise UserError if a compressed file is truncated or corrupt.
    """
    url, day = text_range.url, text_range.day
    for content in _read_compressed(url) if text_range.stop is None else [_read_range(text_range)]:
        if content:
            yield lines_table(content, url, day)


def lines_table(content: bytes, url: str, day: str | None) -> pa.Table:
    """Complete lines, each with its newline -> one row per line, of LINES_SCHEMA; without copying the bytes.

    Raise UserError above 2 GiB, which is possible only if a single line is that long.
    """
    if len(content) > _MAX_TABLE_BYTES:
        raise UserError(
            f"{url}: expected lines of a few kB, found one of {len(content) >> 20} MiB; is it a text file?"
        )
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    lines = pa.Array.from_buffers(
        pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    )
    return make_table(lines, np.array(content.split(b"\n")[:-1], object), url, day)


def make_table(lines: pa.Array, hashed: np.ndarray, url: str, day: str | None) -> pa.Table:
    """(n,) lines with their newlines, and (n,) bytes without -> a table of LINES_SCHEMA."""
    files, days = (pa.repeat(pa.scalar(text, pa.string()), len(lines)) for text in (url, day))
    return pa.table([lines, files, days, pa.array(row_hashes(hashed))], schema=LINES_SCHEMA)


def row_hashes(lines: np.ndarray) -> np.ndarray:
    """(n,) bytes -> (n,) int64: pandas' SipHash with its fixed key, equal on every machine."""
    return pd.util.hash_array(lines, categorize=False).view(np.int64)


def _read_range(text_range: TextRange) -> bytes:
    """Lines that start in a range, each with a newline, including the last line of a file."""
    assert text_range.stop is not None
    with storage.open_file(text_range.url) as file:
        # Start one byte earlier: a newline there means that a line starts at the start of the range.
        first_byte = max(text_range.start - 1, 0)
        file.seek(first_byte)
        content = file.read(text_range.stop - first_byte)
        if text_range.start:
            # A line that starts earlier belongs to an earlier range; skip to its end.
            newline = content.find(b"\n")
            content = content[newline + 1 :] if newline >= 0 else b""
        elif content.startswith(BOM_UTF8):
            content = content.removeprefix(BOM_UTF8)
        if content.endswith(b"\n") or (text_range.start and not content):
            return content
        content += _rest_of_line(file)
    return content + b"\n" if content and not content.endswith(b"\n") else content


def _rest_of_line(file) -> bytes:
    """Read up to the next newline or the end of the file."""
    chunks: list[bytes] = []
    while chunk := file.read(_STEP_BYTES):
        newline = chunk.find(b"\n")
        if newline >= 0:
            return b"".join([*chunks, chunk[: newline + 1]])
        chunks.append(chunk)
    return b"".join(chunks)


def _read_compressed(url: str) -> Iterator[bytes]:
    """Yield the content of a compressed file in chunks of complete lines."""
    with storage.open_decompressed(url) as file:
        rest, first = b"", True
        while chunk := file.read(MAX_RANGE_BYTES):
            chunk = chunk.removeprefix(BOM_UTF8) if first else chunk
            first, end = False, chunk.rfind(b"\n") + 1
            if not end:
                rest += chunk
                continue
            yield rest + chunk[:end]
            rest = chunk[end:]
        if rest:
            yield rest + b"\n"
