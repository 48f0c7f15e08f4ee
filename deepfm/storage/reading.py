"""Reading of files and folders."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from deepfm.storage.errors import explain_errors, explained
from deepfm.storage.filesystems import open_filesystem


@explained
def exists(url: str) -> bool:
    """Whether a file or folder exists."""
    filesystem, path = open_filesystem(url)
    return filesystem.exists(path)


@explained
def is_folder(url: str) -> bool:
    """Whether the URL is an existing folder."""
    filesystem, path = open_filesystem(url)
    return filesystem.isdir(path)


@explained
def num_bytes(url: str) -> int:
    """Size of a file in bytes; links are followed."""
    filesystem, path = open_filesystem(url)
    return filesystem.size(path)


@explained
def folder_bytes(url: str) -> int:
    """Size of all files in a folder and the folders below it, in bytes."""
    filesystem, path = open_filesystem(url)
    return filesystem.du(path)


@explained
def children(url: str) -> list[dict[str, Any]]:
    """[{name, size, is_folder}] of a folder, by name, without names starting with _ or ., as in Spark."""
    filesystem, path = open_filesystem(url)
    entries = [
        {
            "name": _name(entry),
            "size": entry["size"],
            # Follow links to folders: logs are often assembled from links.
            "is_folder": entry["type"] == "directory"
            or (entry["type"] != "file" and filesystem.isdir(entry["name"])),
        }
        for entry in filesystem.ls(path, detail=True, refresh=True)
        if not _is_marker(entry, path)
    ]
    return sorted((e for e in entries if e["name"][0] not in "_."), key=lambda entry: entry["name"])


@explained
def all_names(url: str) -> list[str]:
    """Return the names in a folder, also those starting with _ or .; empty if it does not exist."""
    filesystem, path = open_filesystem(url)
    try:
        entries = filesystem.ls(path, detail=True, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [_name(entry) for entry in entries if not _is_marker(entry, path)]


def _name(entry: dict[str, Any]) -> str:
    return entry["name"].rstrip("/").rsplit("/", 1)[-1]


def _is_marker(entry: dict[str, Any], path: str) -> bool:
    """Whether an entry is the empty object FOLDER/ that consoles of object stores write for a folder."""
    return not entry["size"] and entry["name"].rstrip("/") == path.rstrip("/")


@explained
def read_bytes(url: str, num_bytes: int | None = None) -> bytes:
    """Read a whole file, or its first `num_bytes` bytes."""
    filesystem, path = open_filesystem(url)
    return filesystem.cat_file(path, end=num_bytes)


@explained
def read_range(url: str, start: int, stop: int) -> bytes:
    """Read the bytes from `start` to `stop` (exclusive)."""
    filesystem, path = open_filesystem(url)
    return filesystem.cat_file(path, start=start, end=stop)


@contextmanager
def open_file(url: str) -> Iterator[BinaryIO]:
    """Open a file for reading with random access."""
    with explain_errors(url):
        filesystem, path = open_filesystem(url)
        with filesystem.open(path, "rb") as file:
            yield file


def read_json(url: str) -> Any:
    """Read a JSON file."""
    return json.loads(read_bytes(url))
