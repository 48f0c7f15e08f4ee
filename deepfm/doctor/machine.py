"""Checks of the machine: Python, Java, environment variables, compiler, memory, disk, folders."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deepfm.doctor.finding import Finding, green, red, yellow
from deepfm.environment_faults import nearest_existing
from deepfm.spark.environment import variable_conflicts
from deepfm.spark.java import MIN_VERSION, REMEDY, find_java, java_problem

_PYTHONS = ((3, 10), (3, 12))
#: Latest Java that the pinned Spark supports.
_NEWEST_JAVA = 21
_GIB = 2**30


def check_python(version: tuple[int, int], path: str) -> Finding:
    """Check the interpreter of the jobs: pyarrow 14 has wheels for 3.10 to 3.12 only."""
    found = f"{version[0]}.{version[1]} ({path}), expected 3.10 to 3.12"
    if _PYTHONS[0] <= version <= _PYTHONS[1]:
        return green("Python", found)
    return red("Python", found, "rm -rf .venv && make env PYTHON=python3.12")


def check_java(environment: Mapping[str, str]) -> Finding:
    """Check the Java that Spark will start."""
    java = find_java(environment)
    if obstacle := java_problem(java, environment):
        return red("Java", f"{obstacle}, expected {MIN_VERSION} or newer", REMEDY)
    assert java is not None and java.version is not None
    found = f"{java.version} ({java.path}), expected {MIN_VERSION} to {_NEWEST_JAVA}"
    if java.version > _NEWEST_JAVA:
        return yellow("Java", found, f"{REMEDY}, if Spark fails: it does not support newer versions")
    return green("Java", found)


def check_spark_variables(
    environment: Mapping[str, str], python: str, spark_version: str, master: str
) -> Finding:
    """Check that no environment variable selects another Spark or Python."""
    what, conflicts = "Spark's variables", variable_conflicts(environment, python, spark_version, master)
    if conflicts:
        names = " ".join(name for name, _ in conflicts)
        return red(what, "; ".join(problem for _, problem in conflicts), f"unset {names}")
    return green(what, "none selects another Spark or Python")


def check_compiler(environment: Mapping[str, str], include: str, *, has_horovod: bool) -> Finding:
    """Check for a C++ compiler and Python's headers, which only the build of Horovod needs."""
    names = [environment.get("CXX") or "c++", "g++", "clang++"]
    compiler = next(filter(None, (shutil.which(n, path=environment.get("PATH", "")) for n in names)), None)
    if compiler and Path(include, "Python.h").exists():
        return green("C++ compiler", f"{compiler}, Python's headers in {include}")
    missing = "no compiler" if compiler is None else f"no Python.h in {include}"
    remedy = "apt-get install g++ python3-dev"
    if has_horovod:
        return yellow("C++ compiler", f"{missing}; Horovod is built already", f"{remedy}, to build it again")
    return red("C++ compiler", f"{missing}, and Horovod is not built yet", remedy)


def check_memory(total: int, available: int, required: int) -> Finding:
    """Compare this machine's memory with that of Spark's driver and the workers, in bytes."""
    found = f"{_gib(available)} free of {_gib(total)}, the profile needs about {_gib(required)}"
    if total < required:
        return red("memory", found, "lower spark.driver.memory in the profile, or use fewer --num-workers")
    if available < required:
        return yellow("memory", found, "end other processes, or lower spark.driver.memory in the profile")
    return green("memory", found)


def check_disk(what: str, folder: Path, *, required: int = _GIB, recommended: int = 10 * _GIB) -> Finding:
    """Check the free bytes at a folder: red below `required`, yellow below `recommended`."""
    existing = nearest_existing(folder)
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return red(what, f"{existing}: {error.strerror}", f"fix the link or mount its disk: ls -l {existing}")
    found = f"{_gib(free)} free at {existing}"
    remedy = f"free some space, or choose a folder on another disk: df -h {existing}"
    if free < required:
        return red(what, f"{found}, expected at least {_gib(required)}", remedy)
    return (
        yellow(what, f"{found}, {_gib(recommended)} are recommended", remedy)
        if free < recommended
        else green(what, found)
    )


def check_writable(what: str, folder: Path) -> Finding:
    """Check that files can be created; no file is left behind, and the folder is not created."""
    existing = nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        remedy = f"mkdir -p {folder} && chmod u+w {folder}, or choose another folder in the profile"
        return red(what, f"{existing} cannot be written: {error.strerror or error}", remedy)
    return green(what, f"{folder} can be written")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
