"""Settings for Spark where the host name does not resolve, the user has no name or /tmp is noexec."""

import mmap
import os
import pwd
import re
import resource
import shlex
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from deepfm.errors import UserError

#: Java cannot load its own files below about 300 open files, and a shuffle needs more.
MIN_OPEN_FILES = 1024
_TARGET_OPEN_FILES = 65536
_LOOPBACK = "127.0.0.1"
#: Java's options for the folders into which libraries extract their native code before they load it.
_NATIVE_FOLDERS = (
    "org.xerial.snappy.tempdir",
    "ZstdTempFolder",
    "jna.tmpdir",
    "io.netty.native.workdir",
)
_DRIVER_OPTIONS = "spark.driver.extraJavaOptions"


def host_name_error() -> str | None:
    """Return why this machine's host name cannot be used; None if it resolves."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError) as error:
        return f"the host name {name} does not resolve: {getattr(error, 'strerror', None) or error}"
    return None


def host_settings(properties: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables with which Spark starts although the host name does not resolve.

    Empty if it resolves. Raise UserError if the executors of a cluster need an address of this machine.
    """
    if not (error := host_name_error()):
        return {}
    if str(properties.get("spark.master", "local")).startswith("local"):
        return {"SPARK_LOCAL_IP": _LOOPBACK, "SPARK_LOCAL_HOSTNAME": "localhost"}
    host = properties.get("spark.driver.host") or environment.get("SPARK_LOCAL_HOSTNAME")
    if host:
        return {"SPARK_LOCAL_HOSTNAME": host}
    raise UserError(f"{error}; add it to /etc/hosts, or set spark.driver.host to an address of this machine")


def raise_open_files_limit() -> None:
    """Raise the limit of open files as far as this user may; UserError if Spark cannot run with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MIN_OPEN_FILES:
        raise UserError(
            f"open files: expected a limit of at least {MIN_OPEN_FILES}, found {hard}; raise it: ulimit -n "
            "(LimitNOFILE of a systemd service, nofile of a container)"
        )
    target = _TARGET_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _TARGET_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def user_name(user_id: int) -> str | None:
    """Return the name of a user id; None if /etc/passwd and other user databases have none."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return None


def user_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables that name the user and a home folder; empty if the user has a name."""
    if user_name(os.getuid()):
        return {}
    name = environment.get("HADOOP_USER_NAME") or f"user{os.getuid()}"
    settings = dict.fromkeys(("USER", "LOGNAME", "HADOOP_USER_NAME", "SPARK_USER"), name)
    has_home = os.access(environment.get("HOME", "/nonexistent"), os.W_OK)
    return settings if has_home else {**settings, "HOME": tempfile.gettempdir()}


def native_library_options(
    properties: Mapping[str, str], environment: Mapping[str, str], folders: Iterable[Path]
) -> str:
    """Return Java options that move native libraries out of a temporary folder mounted noexec; often none.

    They are extracted to the first of `folders` that can be written and executed. Raise UserError if there
    is none.
    """
    temporary = java_temporary_folder(properties, environment)
    if not is_noexec(temporary):
        return ""
    for folder in folders:
        if folder.is_dir() and os.access(folder, os.W_OK) and not is_noexec(folder):
            return " ".join(f"-D{name}={shlex.quote(str(folder))}" for name in _NATIVE_FOLDERS)
    raise UserError(
        f"{temporary}: Java's temporary folder is mounted noexec: no native library can be loaded; set "
        f"-Djava.io.tmpdir=FOLDER in {_DRIVER_OPTIONS} of the profile, with a folder without noexec"
    )


def java_temporary_folder(properties: Mapping[str, object], environment: Mapping[str, str]) -> Path:
    """Return the folder that Java uses for temporary files: it ignores TMPDIR."""
    # In the order in which Java applies them; the last one wins.
    texts = (
        environment.get("JAVA_TOOL_OPTIONS"),
        environment.get("JDK_JAVA_OPTIONS"),
        properties.get(_DRIVER_OPTIONS),
        environment.get("_JAVA_OPTIONS"),
    )
    found = re.findall(r"-Djava\.io\.tmpdir=(\S+)", " ".join(str(text) for text in texts if text))
    return Path(found[-1].strip("\"'") if found else "/tmp")


def is_noexec(folder: Path) -> bool:
    """Whether a writable folder refuses to map a file as executable, as the loading of a library does."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(mmap.PAGESIZE))
            probe.flush()
            return not _can_execute(probe.fileno())
    except OSError:
        return False  # missing or not writable, which is another fault


def _can_execute(file: int) -> bool:
    try:
        mmap.mmap(file, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    except PermissionError:
        return False
    return True
