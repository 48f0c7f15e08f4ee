"""A file by which one process at a time, of those that reach it, does a thing."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from deepfm import storage
from deepfm.errors import UserError


def lock_file(work_url: str, name: str) -> Path:
    """Where all have it that have this work_dir among their own files; else the user's processes here."""
    if local := storage.local_path(work_url):
        return Path(local) / "locks" / f"{name}.lock"
    return Path(tempfile.gettempdir()) / f"deepfm_locks_{os.getuid()}" / f"{name}.lock"


@contextmanager
def locked(path: Path, name: str, remedy: str) -> Iterator[None]:
    """For the block the file is this process's, and gone after it; UserError where it is another's.

    `name` and `remedy` say in the error what is in use and what to do other than wait.
    """
    with _held(path, name, remedy) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others' files are there
                path.parent.rmdir()


def _held(path: Path, name: str, remedy: str) -> TextIO:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except FileNotFoundError:
            continue  # the process that had it last has removed the folder meanwhile
        except FileExistsError:
            if path.parent.is_file():
                raise
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the kernel however the process ends
        except OSError as error:
            file.seek(0)
            found = file.read() or "unknown"
            file.close()
            raise UserError(
                f"{name}: expected it to be free, found process {found} using it; wait for that, or {remedy}"
            ) from error
        # What was locked may have been removed since it was opened: another process's would have its name.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
