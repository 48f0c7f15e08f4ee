"""Compressed files, read by their extension."""

import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import islice
from lzma import LZMAError
from typing import Any, BinaryIO

from fsspec.compression import register_compression
from fsspec.core import OpenFile
from fsspec.utils import infer_compression

from deepfm.errors import UserError
from deepfm.storage.errors import explain_errors
from deepfm.storage.filesystems import open_filesystem


def _open_with_arrow(compression: str) -> Callable[..., BinaryIO]:
    def open_stream(file: BinaryIO, mode: str = "rb", **_: Any) -> BinaryIO:
        import pyarrow as pa

        return BufferedReader(pa.CompressedInputStream(file, compression))

    return open_stream


for _name, _extension in (("zstd", "zst"), ("lz4", "lz4")):
    # fsspec opens these with packages that need not be installed; Arrow is.
    register_compression(_name, _open_with_arrow(_name), _extension, force=True)


@contextmanager
def open_decompressed(url: str) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressing it according to its extension (.gz, .bz2, …).

    Raise UserError, also from within the block, if the file is truncated, corrupt or not compressed.
    """
    try:
        filesystem, path = open_filesystem(url)
        compression = infer_compression(path)
        # Errors of a server are explained first: those of s3fs also have no errno.
        with explain_errors(url), OpenFile(filesystem, path, "rb", compression=compression) as file:
            yield file
    except (OSError, EOFError, LZMAError, zlib.error) as error:
        # gzip and bz2 raise OSErrors without errno for corrupt data. So does HDFS for other failures, which
        # is why an uncompressed file never counts as corrupt.
        if isinstance(error, OSError) and (error.errno is not None or infer_compression(url) is None):
            raise
        raise UserError(
            f"{url}: corrupt or truncated compressed file: {error}; recompress it, or rename it if it is not "
            "compressed"
        ) from error


def first_lines(url: str, num_lines: int) -> list[bytes]:
    """Read the first lines of a text file like Spark: decompressed, without byte-order mark and newlines.

    Raise UserError if the file cannot be decompressed.
    """
    with open_decompressed(url) as file:
        lines = [line.removesuffix(b"\n") for line in islice(file, num_lines)]
    return [line.removeprefix(BOM_UTF8) if index == 0 else line for index, line in enumerate(lines)]


def first_line(url: str) -> bytes:
    """Read the first line (see `first_lines`); empty if the file is empty."""
    return next(iter(first_lines(url, 1)), b"")
