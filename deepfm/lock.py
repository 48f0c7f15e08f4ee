"""A file by which one process at a time, of those that reach it, does a thing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepfm.errors import UserError


@contextmanager
def locked(path: Path, name: str, remedy: str) -> Iterator[None]:
    """For the block the file is this process's; UserError where it is another's.

    `name` and `remedy` say in the error what is in use and what to do other than wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the kernel however the process ends
        except OSError as error:
            file.seek(0)
            raise UserError(
                f"{name}: expected it to be free, found process {file.read() or 'unknown'} using it; "
                f"wait for that, or {remedy}"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
