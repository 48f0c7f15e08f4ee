"""Lock files that exclude other processes on the same filesystem or machine."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from deepfm import storage
from deepfm.errors import JobFailedError, UserError

#: Attempts to create a lock file while other processes remove it.
_MAX_ATTEMPTS = 200
_RETRY_S = 0.01


def lock_file(work_url: str, name: str) -> Path:
    """Path of a lock: in a work_dir on a file system, else in a temporary folder of the user."""
    if local := storage.local_path(work_url):
        return Path(local) / "locks" / f"{name}.lock"
    return Path(tempfile.gettempdir()) / f"deepfm_locks_{os.getuid()}" / f"{name}.lock"


@contextmanager
def exclusive_lock(path: Path, name: str, remedy: str) -> Iterator[None]:
    """Hold the lock during the block and remove its file afterwards.

    Raise JobFailedError if it is held already, UserError if its file cannot be created.

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


@contextmanager
def brief_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Exclude other processes during a short block; after `timeout_s`, or without a lock file, go on."""
    deadline = time.monotonic() + timeout_s
    with ExitStack() as stack:
        while time.monotonic() < deadline:
            try:
                stack.enter_context(exclusive_lock(path, "", ""))
                break
            except UserError:  # no lock file can be created
                break
            except JobFailedError:
                time.sleep(_RETRY_S)
        yield


def _acquire(path: Path, name: str, remedy: str) -> TextIO:
    reason: object = "other processes keep removing it"
    for _ in range(_MAX_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except (FileNotFoundError, FileExistsError) as error:
            reason = error  # a race with a holder that removes the folder, or a link to a missing folder
        except OSError as error:
            raise _unusable(path, error) from error
        else:
            _lock(file, path, name, remedy)
            if _is_current(file, path):
                return file
            file.close()
        time.sleep(_RETRY_S)
    raise _unusable(path, reason)


def _lock(file: TextIO, path: Path, name: str, remedy: str) -> None:
    """Lock an open file, or close it and raise."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it when the process ends
    except BlockingIOError as error:
        with file:
            file.seek(0)
            holder = file.read() or "unknown"
        raise JobFailedError(
            f"{name} is in use by process {holder}; wait until it ends, or {remedy}"
        ) from error
    except OSError as error:
        file.close()
        raise _unusable(path, error) from error


def _is_current(file: TextIO, path: Path) -> bool:
    """Whether `file` is still at `path`: after it was opened, it may have been removed and created again."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _unusable(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: cannot use this lock file: {reason}; fix the folder or choose another one")
