"""The machine: Python, Java, compiler, memory, disk, folders that are written."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deepfm.doctor.finding import Finding, green, red, yellow
from deepfm.spark.java import MIN_VERSION, REMEDY, find_java, java_problem

_PYTHONS = ((3, 10), (3, 12))
#: The last Java that the pinned Spark was released for.
_NEWEST_JAVA = 21
_GIB = 2**30


def check_python(version: tuple[int, int], path: str) -> Finding:
    """The interpreter that runs the jobs: pyarrow 14 has wheels for these only."""
    found = f"{version[0]}.{version[1]} ({path}), wanted 3.10 to 3.12"
    if _PYTHONS[0] <= version <= _PYTHONS[1]:
        return green("Python", found)
    return red("Python", found, "rm -rf .venv && make env PYTHON=python3.12")


def check_java(environment: Mapping[str, str]) -> Finding:
    """The Java that Spark will start."""
    java = find_java(environment)
    if problem := java_problem(java, environment):
        return red("Java", f"{problem}, wanted {MIN_VERSION} or newer", REMEDY)
    found = f"{java.version} ({java.path}), wanted {MIN_VERSION} to {_NEWEST_JAVA}"
    if java.version > _NEWEST_JAVA:
        return yellow("Java", found, f"{REMEDY}, where Spark fails: it was not released for newer ones")
    return green("Java", found)


def check_compiler(environment: Mapping[str, str], include: str, *, horovod_is_there: bool) -> Finding:
    """A C++ compiler and Python's headers, of which only Horovod's build has need."""
    names = [environment.get("CXX") or "c++", "g++", "clang++"]
    compiler = next(filter(None, (shutil.which(n, path=environment.get("PATH", "")) for n in names)), None)
    if compiler and Path(include, "Python.h").exists():
        return green("C++ compiler", f"{compiler}, Python's headers in {include}")
    missing = "no compiler" if compiler is None else f"no Python.h in {include}"
    remedy = "apt-get install g++ python3-dev"
    if horovod_is_there:
        return yellow("C++ compiler", f"{missing}; Horovod is built already", f"{remedy}, to build it again")
    return red("C++ compiler", f"{missing}, and Horovod is not built yet", remedy)


def check_memory(total: int, available: int, wanted: int) -> Finding:
    """Bytes of this machine beside what Spark's driver and the workers take."""
    found = f"{_gib(available)} free of {_gib(total)}, the profile wants about {_gib(wanted)}"
    if total < wanted:
        return red("memory", found, "lower spark.driver.memory in the profile, or give fewer --num-workers")
    if available < wanted:
        return yellow("memory", found, "end what else runs here, or lower spark.driver.memory in the profile")
    return green("memory", found)


def check_disk(what: str, folder: Path, *, need: int = _GIB, ease: int = 10 * _GIB) -> Finding:
    """Free bytes where a folder is or will be: red below `need`, yellow below `ease`."""
    where = _nearest(folder)
    try:
        free = shutil.disk_usage(where).free
    except OSError as error:
        return red(what, f"{where}: {error.strerror}", f"mend the link or mount its disk: ls -l {where}")
    found = f"{_gib(free)} free at {where}"
    remedy = f"free some, or name a folder on another disk: df -h {where}"
    if free < need:
        return red(what, f"{found}, wanted at least {_gib(need)}", remedy)
    return (
        yellow(what, f"{found}, {_gib(ease)} are comfortable", remedy) if free < ease else green(what, found)
    )


def check_writable(what: str, folder: Path) -> Finding:
    """Whether files can be made there; nothing is left behind, and the folder is not made."""
    where = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=where) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        remedy = f"mkdir -p {folder} && chmod u+w {folder}, or name another folder in the profile"
        return red(what, f"{where} cannot be written: {error.strerror or error}", remedy)
    return green(what, f"{folder} can be written")


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there, whatever kind of file it is."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
