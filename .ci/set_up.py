"""Create .venv from requirements.lock: torch and its dependencies, the other pins, Horovod, this project.

`make env` runs it with the Python of the machine; it needs only the standard library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from build_horovod import VERSION as HOROVOD_VERSION
from build_horovod import SetUpError, build_obstacle, cache_folder, horovod_wheel, locked, run, say

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
READY = VENV / ".ready"  # stamp of the Makefile; contains the digests of the inputs
# Exists while .venv is written or removed; after an interruption .venv is incomplete.
UNFINISHED = ROOT / ".venv.unfinished"
INPUTS = [LOCK, ROOT / "setup.py", *sorted((ROOT / ".ci").glob("*.py"))]

# They would make pip or Python use other folders, or pass the job count of make to the build of Horovod.
FOREIGN = [
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "MAKEFLAGS",
    "MFLAGS",
]

VERIFY = """
import warnings; warnings.simplefilter("ignore")
import torch, pyspark, pyarrow, petastorm, mlflow, horovod, horovod.torch as hvd, deepfm
versions = [f"{m.__name__} {m.__version__}" for m in (torch, pyspark, pyarrow, petastorm, mlflow, horovod)]
print(", ".join(versions), "with", "NCCL" if hvd.nccl_built() else "Gloo")
"""


def main() -> None:
    started = time.monotonic()
    for name in FOREIGN:
        os.environ.pop(name, None)
    if reason := java_obstacle() or python_obstacle(sys.version_info[:2]):
        raise SetUpError(reason)
    with locked(ROOT / ".venv.lock"):
        if READY.exists() and READY.read_text() == fingerprint():
            READY.touch()  # same content, newer files (a checkout): nothing to do
            return
        # Checked before gigabytes are installed; a wheel built by another clone needs no compiler.
        built = any(cache_folder().glob(wheel_pattern(LOCK.read_text())))
        if not built and (reason := build_obstacle()):
            raise SetUpError(reason)
        make_environment()
    say(f"done in {time.monotonic() - started:.0f} s")


def make_environment() -> None:
    READY.unlink(missing_ok=True)
    if VENV.exists() and (UNFINISHED.exists() or not same_python()):
        UNFINISHED.touch()
        shutil.rmtree(VENV)
    new = not VENV.exists()
    VENV.mkdir(exist_ok=True)
    with (VENV / "set_up.log").open("a") as log:
        pip = [VENV / "bin/python", "-m", "pip", "--disable-pip-version-check"]
        if new:
            with step("empty environment", log), writing():
                run([base_python(), "-m", "venv", VENV], log)
        with step("torch with its dependencies", log), writing():
            run([*pip, "install", "-c", LOCK, f"torch=={pinned('torch', LOCK.read_text())}"], log)
        with step("other pinned packages", log), writing():
            # Without resolution: Petastorm requires setuptools < 70 without using it, torch 77 or newer.
            others = VENV / "others.txt"
            others.write_text(without_horovod(LOCK.read_text()))
            run([*pip, "install", "--no-deps", "-r", others], log)
        with step(f"Horovod {HOROVOD_VERSION}, from the cache or built now (minutes)", log):
            wheel = horovod_wheel(VENV / "bin/python", log)
        with step("this project", log), writing():
            run([*pip, "install", "--no-deps", "--force-reinstall", wheel], log)
            run([*pip, "install", "--no-deps", "--no-build-isolation", "--use-pep517", "-e", ROOT], log)
        with step("check of the installed packages", log):
            run([VENV / "bin/python", "-c", VERIFY], log)
    say((VENV / "set_up.log").read_text().splitlines()[-1])
    READY.write_text(fingerprint())


def fingerprint() -> str:
    digests = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(ROOT)}" for path in INPUTS]
    return "\n".join([f"python {sys.version_info[0]}.{sys.version_info[1]}", *digests, ""])


def base_python() -> Path:
    """Return the Python of the machine, even if the running one is that of an activated .venv."""
    base = Path(sys.base_prefix, "bin", "python{}.{}".format(*sys.version_info))
    return base if base.exists() else Path(sys.executable)


def same_python() -> bool:
    """Whether the Python of .venv has this version and starts (.venv may have been moved)."""
    script = "import sys; print(*sys.version_info[:2]); print(sys.prefix)"
    try:
        answer = subprocess.run([VENV / "bin/python", "-c", script], text=True, stdout=subprocess.PIPE).stdout
    except OSError:
        return False
    return answer.splitlines() == ["{} {}".format(*sys.version_info), str(VENV)]


def pinned(package: str, lock: str) -> str:
    return re.search(rf"^{package}==([^\s;]+)", lock, re.MULTILINE)[1]


def without_horovod(lock: str) -> str:
    return re.sub(r"^horovod==.*\n", "", lock, flags=re.MULTILINE)


def wheel_pattern(lock: str) -> str:
    python = "cp{}{}".format(*sys.version_info)
    return f"horovod-{HOROVOD_VERSION}-torch{pinned('torch', lock)}*-{python}-*/*.whl"


def python_obstacle(version: tuple[int, int]) -> str | None:
    if (3, 10) <= version <= (3, 12):
        return None
    return "Python 3.10, 3.11 or 3.12 is needed, this is {}.{}: make PYTHON=/path/to/python".format(*version)


def java_obstacle() -> str | None:
    """Check the Java that Spark starts: $JAVA_HOME/bin/java, or the java on the PATH."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java")
    remedy = "apt-get install openjdk-17-jre-headless"
    if java is None:
        return (
            f"JAVA_HOME is {home} but has no bin/java" if home else f"Java 17 or newer is missing: {remedy}"
        )
    answer = subprocess.run(
        [java, "-version"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout
    version = java_version(answer)
    if version is None:
        return f"'{java} -version' does not start a Java: {remedy}"
    return None if version >= 17 else f"Java 17 or newer is needed, {java} is {version}: {remedy}"


def java_version(answer: str) -> int | None:
    """Parse the major version: 17 from 'openjdk version "17.0.15"', 8 from 'java version "1.8.0_412"'."""
    match = re.search(r'version "(?:1\.)?(\d+)', answer)
    return int(match[1]) if match else None


@contextlib.contextmanager
def writing() -> Iterator[None]:
    UNFINISHED.touch()
    yield
    UNFINISHED.unlink()


@contextlib.contextmanager
def step(what: str, log: IO[str]) -> Iterator[None]:
    started = time.monotonic()
    say(f"{what} ...")
    try:
        yield
    except subprocess.CalledProcessError as error:
        log.flush()
        lines = (VENV / "set_up.log").read_text(errors="replace").splitlines()[-15:]
        raise SetUpError("\n".join([*lines, f"{what}: failed, see {VENV / 'set_up.log'}"])) from error
    say(f"{what}: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except SetUpError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; run make env again")
