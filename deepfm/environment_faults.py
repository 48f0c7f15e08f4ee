"""Recognition of faults of the machine: full disks, unusable folders, limits, users and host names.

Libraries report them as exceptions of their own, and Spark as text inside stack traces of Java and Python, so
both the error numbers and the texts of the operating system are searched.
"""

import errno
import os
import re
import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deepfm.errors import JobFailedError, UserError


@dataclass(frozen=True)
class Fault:
    """One kind of fault: how it is recognized, and what the user reads."""

    pattern: str  # of the text of an error
    problem: str
    remedy: str
    error_numbers: tuple[int, ...] = ()
    errors: tuple[type[BaseException], ...] = ()
    has_path: bool = True  # the fault concerns a file or folder
    may_pass: bool = False  # a retry may succeed


_NUM_OPEN_FILES = 4096
#: Faults in the order in which they are searched: the text of one may contain that of a later one.
_FAULTS = (
    Fault(
        r"failed to map segment from shared object|UnsatisfiedLinkError.*(Permission denied|not permitted)",
        "programs and libraries cannot be executed in the temporary folder (mounted noexec)",
        "set java.io.tmpdir (spark.driver.extraJavaOptions, JAVA_TOOL_OPTIONS) and TMPDIR to a folder "
        "without noexec",
    ),
    Fault(
        r"No space left on device|database or disk is full|not enough space",
        "no space is left on the device",
        "free space, or choose a folder on another disk (df -h, df -i)",
        (errno.ENOSPC,),
    ),
    Fault(
        r"Disk quota exceeded",
        "the disk quota is exceeded",
        "free space, choose a folder without this quota, or have it raised (quota -s)",
        (errno.EDQUOT,),
    ),
    Fault(
        r"Read-only file ?system|attempt to write a readonly database",
        "the filesystem or file is read-only",
        "choose another folder, or remount it writable",
        (errno.EROFS,),
    ),
    Fault(
        r"[Tt]oo many open files",
        "too many open files",
        f"raise the limit with ulimit -n {_NUM_OPEN_FILES} (LimitNOFILE of a systemd service, nofile of a "
        "container)",
        (errno.EMFILE, errno.ENFILE),
        has_path=False,
    ),
    Fault(
        r"can't start new thread|unable to create (new )?native thread|pthread_create failed",
        "no further thread or process can be started",
        "raise the limit with ulimit -u (TasksMax of a systemd service, pids of a container)",
        has_path=False,
    ),
    Fault(
        r"uid not found|invalid null input: name|No username set in the environment",
        f"the user id {os.getuid()} has no name: it is not in /etc/passwd",
        "add the user to /etc/passwd, or run as another user",
        has_path=False,
    ),
    Fault(
        r"UnknownHostException|Name or service not known|Temporary failure in name resolution"
        r"|nodename nor servname",
        "a host name does not resolve",
        "correct the name, or add it to /etc/hosts or the DNS",
        errors=(socket.gaierror,),
        has_path=False,
        may_pass=True,  # a name server may be overloaded
    ),
    Fault(
        r"No usable temporary directory",
        "no temporary folder can be written",
        "set TMPDIR to a folder that exists and can be written",
        has_path=False,
    ),
    Fault(
        r"Permission denied|AccessDeniedException|Mkdirs failed|mkdir of \S+ failed"
        r"|Failed to create (a temp directory|local dir)|unable to open database file",
        "a file or folder cannot be written or read",
        "fix its permissions, or choose another folder",
        (errno.EACCES,),
    ),
)
_PATH = r"(?:file:)?(/[^\s'\"():,]+)"


class EnvironmentFaultError(UserError):
    """The machine lacks something: disk space, permissions, open files, a user name, a host name."""


class TransientFaultError(JobFailedError):
    """A fault of the environment that may pass by itself, such as a name server that does not answer."""


FaultError = EnvironmentFaultError | TransientFaultError


@contextmanager
def explain_faults(doing: str, *folders: str) -> Iterator[None]:
    """Turn a fault of the environment in the block into an error of one line.

    `doing`: what failed and, where it helps, its consequence. `folders`: paths or URLs that the block writes.
    """
    try:
        yield
    except Exception as error:
        if fault := to_fault_error(error, doing, folders):
            raise fault from error
        raise


def to_fault_error(error: BaseException, doing: str = "", folders: Sequence[str] = ()) -> FaultError | None:
    """Convert a fault of the environment to an error of one line; return None for any other error."""
    if isinstance(error, (UserError, JobFailedError)):
        return None  # has a message for the user already
    causes = list(_causes(error))
    for cause in causes:
        for fault in _FAULTS:
            if isinstance(cause, fault.errors) or _error_number(cause) in fault.error_numbers:
                return _build_error(fault, str(cause), doing, folders, _path_of(cause))
    text = "\n".join(str(cause) for cause in causes)
    return fault_in_text(text, doing, folders)


def fault_in_text(text: str, doing: str = "", folders: Sequence[str] = ()) -> FaultError | None:
    """Find a fault of the environment in a message or stack trace; return None if there is none."""
    for fault in _FAULTS:
        if re.search(fault.pattern, text):
            return _build_error(fault, text, doing, folders)
    return None


def full_disk_error(doing: str, folders: Sequence[str]) -> FaultError | None:
    """Return an error if the disk of a folder is full; for processes that ended without any report."""
    return next(
        (
            _build_error(_FAULTS[1], "", doing, [folder])
            for folder in map(_local_path, folders)
            if folder and shutil.disk_usage(nearest_existing(Path(folder))).free < 64 * 1024
        ),
        None,
    )


def nearest_existing(folder: Path) -> Path:
    """Return the path or its first existing parent, whatever its type."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _build_error(
    fault: Fault, text: str, doing: str, folders: Sequence[str], path: str | None = None
) -> FaultError:
    detail = ""
    if fault.has_path:
        path = path or _path_in_text(fault, text) or _fullest(folders)
        detail = f" at {path}{_free_space(path)}" if path else ""
    elif errno.EMFILE in fault.error_numbers:
        detail = f" (limit {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
    elif host := re.search(r"UnknownHostException: ([^\s:]+)", text):
        detail = f" ({host[1]})"
    message = f"{fault.problem}{detail}; {fault.remedy}"
    error_type = TransientFaultError if fault.may_pass else EnvironmentFaultError
    return error_type(f"{doing}: {message}" if doing else message)


def _error_number(error: BaseException) -> int | None:
    # The numbers of gaierror are those of getaddrinfo.
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror):
        return None
    return error.errno


def _path_of(error: BaseException) -> str | None:
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else None


def _path_in_text(fault: Fault, text: str) -> str | None:
    """Find the path next to the text of a fault, as in `/a/b (No space left on device)`."""
    before = re.search(rf"{_PATH}(?:: | \(|.{{0,80}})(?:{fault.pattern})", text)
    after = re.search(rf"(?:{fault.pattern})[^\n/]{{0,40}}?{_PATH}", text)
    match = after or before
    return match and match[match.lastindex or 0]


def _fullest(folders: Sequence[str]) -> str | None:
    """Return the folder with the least free space, among the given ones and the temporary one."""
    paths = [path for path in map(_local_path, folders) if path]
    with suppress(OSError):
        paths.append(tempfile.gettempdir())
    return min(paths, key=lambda path: shutil.disk_usage(nearest_existing(Path(path))).free, default=None)


def _local_path(url: str) -> str | None:
    path = url.removeprefix("file://")
    return None if "://" in path else path


def _free_space(path: str) -> str:
    try:
        free = shutil.disk_usage(nearest_existing(Path(path))).free
    except (OSError, ValueError):
        return ""
    return f" ({free / 2**20:,.1f} MiB free)"
