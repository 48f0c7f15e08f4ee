"""Files on any filesystem fsspec knows (file, hdfs, s3, gs, …), for driver and workers alike, without Spark.

A path without a scheme is a local file, whatever the cluster's default filesystem is.
"""

import json
import os
import re
import uuid
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from lzma import LZMAError
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import infer_compression

from deepfm.errors import UserError

_TOO_FEW_SLASHES = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:/(?!/)|file://(?!/)")
_PATTERN = re.compile(r"[*?\[\]{}\\]")


#: user:password@ of a URL; abfss://container@account has no colon.
_PASSWORD = re.compile(r"^(\w[\w+.-]*://)[^/@:]*:.*@")


def absolute_url(path: str) -> str:
    """`data/x` -> `file:///…/data/x`, a form that Spark, Petastorm and fsspec all read alike; URLs stay.

    `~` is the user's home, as in a shell. UserError for a path that they would not read alike, and for a
    password in it: what a dataset, a run or a published day came from is written into them.
    """
    if _PASSWORD.match(path):
        told = _PASSWORD.sub(r"\1***@", path)
        raise UserError(f"{told}: expected a URL without a password, found one; give it by the environment")
    if _TOO_FEW_SLASHES.match(path):
        example = "file:///x, hdfs:///x, hdfs://HOST/x or s3://BUCKET/x"
        raise UserError(f"{path}: expected a URL with all its slashes, found too few; write it as {example}")
    if "://" in path:
        url = path.rstrip("/")
    else:
        url = "file://" + os.path.abspath(os.path.expanduser(path.removeprefix("file:")))
    if found := _PATTERN.search(url):
        raise UserError(
            f"{url}: expected a path without * ? [ ] {{ }} or \\, by which Spark would look for others too, "
            f"found {found[0]}; rename the file or folder"
        )
    return url


def local_path(url: str) -> str | None:
    """The path of a file:// URL, None for any other filesystem."""
    return url.removeprefix("file://") if url.startswith("file://") else None


def _filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a URL and the path on it; UserError where this machine cannot reach it."""
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{url}: its filesystem cannot be reached from here: {error}") from error


def exists(url: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, path = _filesystem(url)
    return filesystem.exists(path)


def is_folder(url: str) -> bool:
    """Whether a folder is there."""
    filesystem, path = _filesystem(url)
    return filesystem.isdir(path)


def num_bytes(url: str) -> int:
    """The size of a file; of a link, of what it leads to."""
    filesystem, path = _filesystem(url)
    return filesystem.size(path)


def children(url: str) -> list[dict[str, Any]]:
    """[{name, size, is_folder}] of a folder, by name; not what begins with _ or ., as in Spark."""
    filesystem, path = _filesystem(url)
    entries = [
        {
            "name": entry["name"].rstrip("/").rsplit("/", 1)[-1],
            "size": entry["size"],
            # A link to a folder is a folder: logs are often put together from links.
            "is_folder": entry["type"] == "directory"
            or (entry["type"] != "file" and filesystem.isdir(entry["name"])),
        }
        for entry in filesystem.ls(path, detail=True, refresh=True)
    ]
    return sorted((e for e in entries if e["name"][0] not in "_."), key=lambda entry: entry["name"])


def is_empty_folder(url: str) -> bool:
    """Whether it is a folder that holds nothing at all, hidden files included."""
    filesystem, path = _filesystem(url)
    return filesystem.isdir(path) and not filesystem.ls(path, detail=False, refresh=True)


def read_bytes(url: str, num_bytes: int | None = None) -> bytes:
    """The whole file, or its first bytes."""
    filesystem, path = _filesystem(url)
    return filesystem.cat_file(path, end=num_bytes)


def read_range(url: str, start: int, stop: int) -> bytes:
    """The bytes from `start` to `stop` (excluded)."""
    filesystem, path = _filesystem(url)
    return filesystem.cat_file(path, start=start, end=stop)


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """The file, to be read here and there."""
    filesystem, path = _filesystem(url)
    with filesystem.open(path, "rb") as file:
        yield file


def read_json(url: str) -> Any:
    """The document in a JSON file."""
    return json.loads(read_bytes(url))


@contextmanager
def unpacked(url: str) -> Iterator[BinaryIO]:
    """A file as it was before it was packed (.gz, .bz2, …), if it was.

    UserError, also from within the block, where it is cut, damaged or not packed as its name says.
    """
    try:
        with fsspec.open(url, "rb", compression="infer") as file:
            yield file
    except (OSError, EOFError, LZMAError, zlib.error) as error:
        # gzip and bz2 say it by an OSError that, unlike the system's, has no number; nor have some of HDFS's.
        if isinstance(error, OSError) and (error.errno is not None or infer_compression(url) is None):
            raise
        raise UserError(
            f"{url}: expected a whole file packed as its name says, found {error}; pack it anew or rename it"
        ) from error


def first_lines(url: str, num_lines: int) -> list[bytes]:
    """The head of a text file as Spark reads it: unpacked (.gz, …), no byte-order mark, no newlines.

    UserError where it cannot be unpacked.
    """
    with unpacked(url) as file:
        lines = [line.removesuffix(b"\n") for line in islice(file, num_lines)]
    return [line.removeprefix(BOM_UTF8) if place == 0 else line for place, line in enumerate(lines)]


def first_line(url: str) -> bytes:
    """The first of `first_lines`; empty where the file is."""
    return next(iter(first_lines(url, 1)), b"")


def write_bytes(url: str, content: bytes) -> None:
    """Write a file that is seen whole or not at all."""
    with _aside(url) as (filesystem, path):
        filesystem.pipe_file(path, content)


@contextmanager
def writing(url: str) -> Iterator[BinaryIO]:
    """A file to be written bit by bit, seen whole after the block or, where that fails, not at all."""
    with _aside(url) as (filesystem, path), filesystem.open(path, "wb") as file:
        yield file


@contextmanager
def _aside(url: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Where to write what is put in place after the block or, where that fails, removed."""
    filesystem, path = _filesystem(url)
    folder, _, name = path.rpartition("/")
    # Where a writer is killed it stays: by its _ neither Spark nor Petastorm takes it for a file of theirs.
    aside = f"{folder}/_{name}.{uuid.uuid4().hex}"
    try:
        yield filesystem, aside
        if isinstance(filesystem, LocalFileSystem):
            os.replace(aside, path)
        else:
            filesystem.mv(aside, path)
    except BaseException:
        with suppress(OSError):
            filesystem.rm_file(aside)
        raise


def write_json(url: str, document: Any) -> None:
    """Write a JSON file that is seen whole or not at all."""
    write_bytes(url, (json.dumps(document, indent=1) + "\n").encode())


def make_folder(url: str) -> None:
    """Make the folder and its parents; UserError where it cannot be written."""
    filesystem, path = _filesystem(url)
    try:
        filesystem.makedirs(path, exist_ok=True)
        probe = f"{path}/_writable.{uuid.uuid4().hex}"
        filesystem.pipe_file(probe, b"")
        filesystem.rm_file(probe)
    except OSError as error:
        raise UserError(
            f"{url} cannot be written: {error}; choose another output or mend its permissions"
        ) from error


@contextmanager
def scratch_folder(parent_url: str) -> Iterator[str]:
    """A new folder for the time of the block."""
    url = f"{parent_url}/scratch-{uuid.uuid4().hex}"
    make_folder(url)
    try:
        yield url
    finally:
        remove(url)


def rename(url: str, new_url: str) -> None:
    """Move a folder; one step that readers see whole on file and hdfs, a copy on object stores."""
    filesystem, path = _filesystem(url)
    new_path = _filesystem(new_url)[1]
    if local_path(url):
        os.rename(path, new_path)
    else:
        filesystem.mv(path, new_path, recursive=True)


def renames_at_once(url: str) -> bool:
    """Whether `rename` is one step there."""
    protocol = _filesystem(url)[0].protocol
    names = {protocol} if isinstance(protocol, str) else set(protocol)
    return bool(names & {"file", "local", "hdfs"})


def remove(url: str) -> None:
    """Remove a file or folder with all it holds; nothing happens where none is."""
    filesystem, path = _filesystem(url)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)
