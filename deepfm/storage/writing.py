"""Writing of files and folders: what is visible is complete."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from deepfm.errors import UserError
from deepfm.storage.errors import explain_errors, explained
from deepfm.storage.filesystems import is_object_store, open_filesystem
from deepfm.storage.urls import local_path


@explained
def write_bytes(url: str, content: bytes | bytearray | memoryview | Any) -> None:
    """Write a file atomically; `content`: bytes, or any object with a buffer, such as of pyarrow."""
    with _atomic_replace(url) as (filesystem, path):
        # s3fs sends only bytes.
        filesystem.pipe_file(path, content if isinstance(content, bytes) else bytes(memoryview(content)))


@contextmanager
def atomic_writer(url: str) -> Iterator[BinaryIO]:
    """Open a file for writing that appears when the block ends, or not at all if the block raises."""
    with explain_errors(url), _atomic_replace(url) as (filesystem, path):
        file = filesystem.open(path, "wb")
        try:
            yield file
        except BaseException:
            if is_object_store(url):
                _discard(file)
            else:
                file.close()
            raise
        file.close()


def _discard(file: Any) -> None:
    """Abandon an upload: closing the file would complete it."""
    with suppress(NotImplementedError, OSError):
        file.discard()
    file.closed = True


@contextmanager
def _atomic_replace(url: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Yield a temporary path that is renamed to `url` after the block, or removed if the block raises.

    In an object store, yield the path of `url`: an object appears complete when its upload ends.
    """
    filesystem, path = open_filesystem(url)
    if is_object_store(url):
        yield filesystem, path
        return
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
    """Create the folder and its parents. Raise UserError if it is not writable.

    An object store has no folders; there, it is checked only, because a driver would create a missing bucket.
    """
    filesystem, path = open_filesystem(url)
    try:
        with explain_errors(url):
            if not is_object_store(url):
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


@explained
def rename(url: str, new_url: str) -> None:
    """Move a folder: atomic on file and hdfs, a copy on object stores."""
    filesystem, path = open_filesystem(url)
    new_path = open_filesystem(new_url)[1]
    if local_path(url):
        os.rename(path, new_path)
    elif is_object_store(url):
        # fsspec's mv also copies names of folders, which are no objects.
        for source in filesystem.find(path):
            filesystem.cp_file(source, new_path + source.removeprefix(path))
        filesystem.rm(path, recursive=True)
    else:
        filesystem.mv(path, new_path, recursive=True)


@explained
def remove(url: str) -> None:
    """Remove a file or folder and its content, if it exists."""
    filesystem, path = open_filesystem(url)
    with suppress(FileNotFoundError):  # another process may remove it at the same moment
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)
