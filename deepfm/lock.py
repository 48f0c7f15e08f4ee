"""Lock files that exclude other processes on the same filesystem or machine."""

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
    """Path of a lock: in a work_dir on a file system, else in a temporary folder of the user."""
    if local := storage.local_path(work_url):
        return Path(local) / "locks" / f"{name}.lock"
    return Path(tempfile.gettempdir()) / f"deepfm_locks_{os.getuid()}" / f"{name}.lock"


@contextmanager
def exclusive_lock(path: Path, name: str, remedy: str) -> Iterator[None]:
    """Hold the lock during the block and remove its file afterwards. Raise UserError if it is held already.

    `name` and `remedy` are for the error message: what is in use, and what to do instead of waiting.
    """
    with _acquire(path, name, remedy) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # the folder has other files
                path.parent.rmdir()


def _acquire(path: Path, name: str, remedy: str) -> TextIO:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except FileNotFoundError:
            continue  # the previous holder has just removed the folder
        except FileExistsError:
            if path.parent.is_file():
                raise
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it when the process ends
        except OSError as error:
            file.seek(0)
            holder = file.read() or "unknown"
            file.close()
            raise UserError(
                f"{name} is in use by process {holder}; wait until it ends, or {remedy}"
            ) from error
        # The file may have been removed after it was opened, and another process may have created a new one.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
