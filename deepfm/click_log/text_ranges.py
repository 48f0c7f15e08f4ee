"""Text files cut into ranges of bytes, and the lines of a range: each line of a file is in exactly one.

Workers read their ranges themselves: lines that Spark reads reach Python through Java's memory, a socket and
one copy each, which costs as much as parsing them.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from fsspec.utils import infer_compression

from deepfm import storage
from deepfm.errors import UserError

#: Bytes that a worker parses at once: enough that Arrow's fixed costs vanish, 130,000 rows of Criteo.
MAX_RANGE_BYTES = 32 << 20
#: Less is not worth a task of its own.
MIN_RANGE_BYTES = 4 << 20
#: Bytes by which a range's last line is looked for beyond its end.
_STEP_BYTES = 64 << 10
#: Arrow addresses the bytes of a table's lines by 32 bits.
_MAX_TABLE_BYTES = 2**31 - 1
#: The columns of `lines_table`. A line has its newline; row_hash is 64 bits of its content without it.
LINES_SCHEMA = pa.schema(
    [("line", pa.binary()), ("source_file", pa.string()), ("ds", pa.string()), ("row_hash", pa.int64())]
)


@dataclass(frozen=True)
class TextFile:
    """A file of lines, and the day of its folder where it lies in one."""

    url: str
    num_bytes: int
    day: str | None = None

    @property
    def is_packed(self) -> bool:
        """Whether its name ends in .gz or the like: it can only be read from its beginning."""
        return infer_compression(self.url) is not None


@dataclass(frozen=True)
class TextRange:
    """The lines of a file that begin from byte `start` on and before byte `stop`; None: at its end."""

    url: str
    day: str | None
    start: int
    stop: int | None


def cut(files: Sequence[TextFile], range_bytes: int) -> list[TextRange]:
    """Ranges of at most `range_bytes` that are all of the files; a packed one is one range."""
    ranges = []
    for file in files:
        if file.is_packed:
            ranges.append(TextRange(file.url, file.day, 0, None))
            continue
        for start in range(0, file.num_bytes, range_bytes):
            stop = min(start + range_bytes, file.num_bytes)
            ranges.append(TextRange(file.url, file.day, start, stop))
    return ranges


def read_tables(of: TextRange) -> Iterator[pa.Table]:
    """The range's lines as tables of LINES_SCHEMA, one unless the file is packed; none without a line.

    UserError where a packed file is cut or damaged.
    """
    for content in _unpacked(of.url) if of.stop is None else [_content(of)]:
        if content:
            yield lines_table(content, of.url, of.day)


def lines_table(content: bytes, url: str, day: str | None) -> pa.Table:
    """Whole lines, each with its newline -> one row a line, of LINES_SCHEMA; the lines' bytes are not copied.

    UserError beyond 2 GiB, which only a line of that length makes.
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
    hashes = row_hashes(np.array(content.split(b"\n")[:-1], object))
    files, days = (pa.repeat(pa.scalar(text, pa.string()), len(ends)) for text in (url, day))
    return pa.table([lines, files, days, pa.array(hashes)], schema=LINES_SCHEMA)


def row_hashes(lines: np.ndarray) -> np.ndarray:
    """(n,) bytes -> (n,) int64: pandas' SipHash with its fixed key, the same on every machine."""
    return pd.util.hash_array(lines, categorize=False).view(np.int64)


def _content(of: TextRange) -> bytes:
    """The lines that begin in a range, each with a newline, the last line of a file too."""
    with storage.opened(of.url) as file:
        # From one byte before on: a newline there says that a line begins where the range does.
        file.seek(max(of.start - 1, 0))
        content = file.read(of.stop - max(of.start - 1, 0))
        if of.start:
            # A line that began before is of the range where it began, and ends here or further on.
            newline = content.find(b"\n")
            content = content[newline + 1 :] if newline >= 0 else b""
        elif content.startswith(BOM_UTF8):
            content = content.removeprefix(BOM_UTF8)
        if content.endswith(b"\n") or (of.start and not content):
            return content
        content += _rest_of_line(file)
    return content + b"\n" if content and not content.endswith(b"\n") else content


def _rest_of_line(file) -> bytes:
    """From where the file stands to its next newline, or its end."""
    pieces = []
    while piece := file.read(_STEP_BYTES):
        newline = piece.find(b"\n")
        if newline >= 0:
            return b"".join([*pieces, piece[: newline + 1]])
        pieces.append(piece)
    return b"".join(pieces)


def _unpacked(url: str) -> Iterator[bytes]:
    """The lines of a packed file, in pieces of whole ones."""
    with storage.unpacked(url) as file:
        rest, first = b"", True
        while piece := file.read(MAX_RANGE_BYTES):
            piece = piece.removeprefix(BOM_UTF8) if first else piece
            first, end = False, piece.rfind(b"\n") + 1
            if not end:
                rest += piece
                continue
            yield rest + piece[:end]
            rest = piece[end:]
        if rest:
            yield rest + b"\n"
