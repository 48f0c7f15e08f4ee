"""Files on any filesystem fsspec knows: file, hdfs, s3, gs, …; the driver's and the workers' view, without Spark.

A path without a scheme is a local file, whatever the cluster's default filesystem is.
"""

import json
import os
import uuid
from typing import Any

import fsspec

from deepfm.errors import UserError


def absolute_url(path: str) -> str:
    """`data/x` -> `file:///…/data/x`, a form that Spark, Petastorm and fsspec all read alike; URLs stay."""
    if "://" in path:
        return path.rstrip("/")
    return "file://" + os.path.abspath(path.removeprefix("file:"))


def local_path(url: str) -> str | None:
    """The path of a file:// URL, None for any other filesystem."""
    return url.removeprefix("file://") if url.startswith("file://") else None


def exists(url: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem.exists(path)


def is_folder(url: str) -> bool:
    """Whether a folder is there."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem.isdir(path)


def children(url: str) -> list[dict[str, Any]]:
    """[{name, size, is_folder}] of a folder, by name; without what begins with _ or . (Spark reads none of it)."""
    filesystem, path = fsspec.core.url_to_fs(url)
    entries = [
        {
            "name": entry["name"].rstrip("/").rsplit("/", 1)[-1],
            "size": entry["size"],
            "is_folder": entry["type"] == "directory",
        }
        for entry in filesystem.ls(path, detail=True, refresh=True)
    ]
    return sorted((e for e in entries if e["name"][0] not in "_."), key=lambda entry: entry["name"])


def read_bytes(url: str) -> bytes:
    """The whole file."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem.cat_file(path)


def read_json(url: str) -> Any:
    """The document in a JSON file."""
    return json.loads(read_bytes(url))


def first_line(url: str) -> bytes:
    """The first line of a text file, unpacked where its name says how (.gz, .bz2, …), without its end."""
    with fsspec.open(url, "rb", compression="infer") as file:
        return file.readline().rstrip(b"\r\n")


def write_bytes(url: str, content: bytes) -> None:
    """Write a file that is seen whole or not at all."""
    filesystem, path = fsspec.core.url_to_fs(url)
    aside = f"{path}.{uuid.uuid4().hex}"
    filesystem.pipe_file(aside, content)
    if local_path(url):
        os.replace(aside, path)
    else:
        filesystem.mv(aside, path)


def write_json(url: str, document: Any) -> None:
    """Write a JSON file that is seen whole or not at all."""
    write_bytes(url, (json.dumps(document, indent=1) + "\n").encode())


def make_folder(url: str) -> None:
    """Make the folder and its parents; UserError where it cannot be written."""
    filesystem, path = fsspec.core.url_to_fs(url)
    try:
        filesystem.makedirs(path, exist_ok=True)
        probe = f"{path}/_writable.{uuid.uuid4().hex}"
        filesystem.pipe_file(probe, b"")
        filesystem.rm_file(probe)
    except OSError as error:
        raise UserError(f"{url} cannot be written: {error}; choose another output or mend its permissions") from error


def rename(url: str, new_url: str) -> None:
    """Move a folder; one step that readers see whole on file and hdfs, a copy on object stores."""
    filesystem, path = fsspec.core.url_to_fs(url)
    new_path = fsspec.core.url_to_fs(new_url)[1]
    if local_path(url):
        os.rename(path, new_path)
    else:
        filesystem.mv(path, new_path, recursive=True)


def remove(url: str) -> None:
    """Remove a file or folder with all it holds; nothing happens where none is."""
    filesystem, path = fsspec.core.url_to_fs(url)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)
