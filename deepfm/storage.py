"""File access on any fsspec filesystem (file, hdfs, s3, gs, …), for driver and workers, without Spark.

A path without a scheme is a local file, whatever the cluster's default filesystem.
"""

import json
import os
import re
import uuid
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from itertools import islice
from lzma import LZMAError
from typing import Any, BinaryIO

import fsspec
from fsspec.compression import register_compression
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import infer_compression

from deepfm.errors import UserError

_MISSING_SLASHES = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:/(?!/)|file://(?!/)")
_GLOB_CHARACTERS = re.compile(r"[*?\[\]{}\\]")

#: user:password@ in a URL; abfss://container@account has no colon.
_PASSWORD = re.compile(r"^(\w[\w+.-]*://)[^/@:]*:.*@")


def absolute_url(path: str) -> str:
    """Convert a path to a URL that Spark, Petastorm and fsspec all accept: `data/x` -> `file:///…/data/x`.

    URLs are returned without a trailing slash, and `~` is expanded. Raise UserError for a path that the three
    would read differently, and for a URL with a password, because URLs are written into datasets, runs and
    published days.
    """
    if _PASSWORD.match(path):
        redacted = _PASSWORD.sub(r"\1***@", path)
        raise UserError(
            f"{redacted}: expected a URL without a password; pass credentials by environment variables"
        )
    if _MISSING_SLASHES.match(path):
        example = "file:///x, hdfs:///x, hdfs://HOST/x or s3://BUCKET/x"
        raise UserError(f"{path}: slashes are missing in this URL; write it like {example}")
    if "://" in path:
        url = path.rstrip("/")
    else:
        url = "file://" + os.path.abspath(os.path.expanduser(path.removeprefix("file:")))
    if match := _GLOB_CHARACTERS.search(url):
        raise UserError(
            f"{url}: expected a path without * ? [ ] {{ }} or \\, which Spark reads as a glob pattern, "
            f"found {match[0]}; rename the file or folder"
        )
    return url


def local_path(url: str) -> str | None:
    """Path of a file:// URL, None for any other filesystem."""
    return url.removeprefix("file://") if url.startswith("file://") else None


def _filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Filesystem and path of a URL. Raise UserError if the filesystem is not available here."""
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{url}: cannot access its filesystem: {error}") from error


def exists(url: str) -> bool:
    """Whether a file or folder exists."""
    filesystem, path = _filesystem(url)
    return filesystem.exists(path)


def is_folder(url: str) -> bool:
    """Whether the URL is an existing folder."""
    filesystem, path = _filesystem(url)
    return filesystem.isdir(path)


def num_bytes(url: str) -> int:
    """Size of a file in bytes; links are followed."""
    filesystem, path = _filesystem(url)
    return filesystem.size(path)


def folder_bytes(url: str) -> int:
    """Size of all files in a folder and the folders below it, in bytes."""
    filesystem, path = _filesystem(url)
    return filesystem.du(path)


def children(url: str) -> list[dict[str, Any]]:
    """[{name, size, is_folder}] of a folder, by name, without names starting with _ or ., as in Spark."""
    filesystem, path = _filesystem(url)
    entries = [
        {
            "name": entry["name"].rstrip("/").rsplit("/", 1)[-1],
            "size": entry["size"],
            # Follow links to folders: logs are often assembled from links.
            "is_folder": entry["type"] == "directory"
            or (entry["type"] != "file" and filesystem.isdir(entry["name"])),
        }
        for entry in filesystem.ls(path, detail=True, refresh=True)
    ]
    return sorted((e for e in entries if e["name"][0] not in "_."), key=lambda entry: entry["name"])


def all_names(url: str) -> list[str]:
    """Return the names in a folder, also those starting with _ or .; empty if it does not exist."""
    filesystem, path = _filesystem(url)
    try:
        entries = filesystem.ls(path, detail=False, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries]


def read_bytes(url: str, num_bytes: int | None = None) -> bytes:
    """Read a whole file, or its first `num_bytes` bytes."""
    filesystem, path = _filesystem(url)
    return filesystem.cat_file(path, end=num_bytes)


def read_range(url: str, start: int, stop: int) -> bytes:
    """Read the bytes from `start` to `stop` (exclusive)."""
    filesystem, path = _filesystem(url)
    return filesystem.cat_file(path, start=start, end=stop)


@contextmanager
def open_file(url: str) -> Iterator[BinaryIO]:
    """Open a file for reading with random access."""
    filesystem, path = _filesystem(url)
    with filesystem.open(path, "rb") as file:
        yield file


def read_json(url: str) -> Any:
    """Read a JSON file."""
    return json.loads(read_bytes(url))


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
        with fsspec.open(url, "rb", compression="infer") as file:
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


def write_bytes(url: str, content: bytes) -> None:
    """Write a file atomically."""
    with _atomic_replace(url) as (filesystem, path):
        filesystem.pipe_file(path, content)


@contextmanager
def atomic_writer(url: str) -> Iterator[BinaryIO]:
    """Open a file for writing that appears when the block ends, or not at all if the block raises."""
    with _atomic_replace(url) as (filesystem, path), filesystem.open(path, "wb") as file:
        yield file


@contextmanager
def _atomic_replace(url: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Yield a temporary path that is renamed to `url` after the block, or removed if the block raises."""
    filesystem, path = _filesystem(url)
    folder, _, name = path.rpartition("/")
    # If the writer is killed, the file stays. Spark and Petastorm ignore it because its name starts with _.
    temporary_path = f"{folder}/_{name}.{uuid.uuid4().hex}"
    try:
        yield filesystem, temporary_path
        if isinstance(filesystem, LocalFileSystem):
            os.replace(temporary_path, path)
        else:
            filesystem.mv(temporary_path, path)
    except BaseException:
        with suppress(OSError):
            filesystem.rm_file(temporary_path)
        raise


def write_json(url: str, document: Any) -> None:
    """Write a JSON file atomically."""
    write_bytes(url, (json.dumps(document, indent=1) + "\n").encode())


def make_folder(url: str) -> None:
    """Create the folder and its parents. Raise UserError if it is not writable."""
    filesystem, path = _filesystem(url)
    try:
        filesystem.makedirs(path, exist_ok=True)
        probe = f"{path}/_writable.{uuid.uuid4().hex}"
        filesystem.pipe_file(probe, b"")
        filesystem.rm_file(probe)
    except OSError as error:
        raise UserError(
            f"{url} cannot be written: {error}; choose another output or fix its permissions"
        ) from error


def remove_empty_folder(url: str) -> None:
    """Remove a local folder if it is empty; other filesystems have none, or would remove its content too."""
    if path := local_path(url):
        with suppress(OSError):
            os.rmdir(path)


@contextmanager
def scratch_folder(parent_url: str) -> Iterator[str]:
    """Create a folder that is removed after the block."""
    url = f"{parent_url}/scratch-{uuid.uuid4().hex}"
    make_folder(url)
    try:
        yield url
    finally:
        remove(url)


def rename(url: str, new_url: str) -> None:
    """Move a folder: atomic on file and hdfs, a copy on object stores."""
    filesystem, path = _filesystem(url)
    new_path = _filesystem(new_url)[1]
    if local_path(url):
        os.rename(path, new_path)
    else:
        filesystem.mv(path, new_path, recursive=True)


def has_atomic_rename(url: str) -> bool:
    """Whether `rename` is atomic on this filesystem."""
    protocol = _filesystem(url)[0].protocol
    names = {protocol} if isinstance(protocol, str) else set(protocol)
    return bool(names & {"file", "local", "hdfs"})


def remove(url: str) -> None:
    """Remove a file or folder and its content, if it exists."""
    filesystem, path = _filesystem(url)
    with suppress(FileNotFoundError):  # another process may remove it at the same moment
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)
