"""`make pack`: archive of this project and its dependencies for the executors of a cluster.

venv-pack refuses the editable install in .venv. This module creates a second environment in build/, with
links to the files of the packages that setup.py requires, and the project as a wheel. It omits packages
of tests, linters and notebooks, and Spark's jars: executors run the Spark of their cluster.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import venv_pack
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "deepfm-spark"
EXTRAS = {"", "horovod"}
BUILD = ROOT / "build"
ENVIRONMENT, WHEELS, ARCHIVE = BUILD / "environment", BUILD / "wheels", BUILD / "environment.tar.gz"
OMITTED = ("pyspark/jars/", "pyspark/examples/", "pyspark/data/", "torch/include/", "torch/test/")
VERIFY = "import deepfm, horovod.torch, mlflow, petastorm, pyarrow, torch; print(deepfm.__file__)"


def main() -> None:
    started = time.monotonic()
    for old in (ENVIRONMENT, WHEELS, BUILD / "lib"):  # lib may contain modules that were removed
        shutil.rmtree(old, ignore_errors=True)
    make_environment()
    packages = {
        name: package for name, package in required_packages(PROJECT, EXTRAS).items() if name != PROJECT
    }
    for package in packages.values():
        link_files(package)
    install_project()
    run(ENVIRONMENT / "bin/python", "-c", VERIFY)
    venv_pack.pack(
        str(ENVIRONMENT),
        output=str(ARCHIVE),
        python_prefix=os.environ.get("HOST_PYTHON_PREFIX") or None,
        compress_level=1,  # level 9 takes minutes and saves a twentieth
        force=True,
    )
    size = ARCHIVE.stat().st_size / 2**20
    seconds = time.monotonic() - started
    print(f"{ARCHIVE}: {len(packages) + 1} packages, {size:.0f} MiB, in {seconds:.0f} s; requires {python()}")


def make_environment() -> None:
    """Create an empty environment with the Python of .venv."""
    run(sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT)


def required_packages(name: str, extras: set[str]) -> dict[str, Distribution]:
    """Return the installed packages that a package requires, itself included, by name."""
    packages: dict[str, Distribution] = {}
    pending = [(canonicalize_name(name), extras)]
    while pending:
        name, extras = pending.pop()
        if name in packages:
            continue
        try:
            packages[name] = distribution(name)
        except PackageNotFoundError:
            continue  # for another system, or deliberately not in requirements.lock
        for line in packages[name].requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                pending.append((canonicalize_name(requirement.name), requirement.extras | {""}))
    return packages


def link_files(package: Distribution) -> None:
    """Link the files of a package in site-packages; executors do not need its commands."""
    for file in package.files or ():
        if file.parts[0] == ".." or file.as_posix().startswith(OMITTED):
            continue
        source = Path(package.locate_file(file))
        target = site_packages() / file
        if source.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link(source, target)


def link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the filesystem does not support it or build/ is on another one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def install_project() -> None:
    """Install the project from a wheel, so that the archive contains no path of this folder."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--use-pep517", "-w", WHEELS, ROOT)
    (wheel,) = WHEELS.glob("*.whl")
    run(*pip, "--python", ENVIRONMENT / "bin/python", "install", "--no-deps", "--no-index", wheel)


def site_packages() -> Path:
    return ENVIRONMENT / "lib" / f"python{python_version()}" / "site-packages"


def python_version() -> str:
    return "{}.{}".format(*sys.version_info)


def python() -> str:
    """Return the path of the Python that every host must have: the environment only links to it."""
    prefix = os.environ.get("HOST_PYTHON_PREFIX") or sys.base_prefix
    return f"{prefix}/bin/python{python_version()} on every host"


def run(*command) -> None:
    # In another folder: in this one `import deepfm` would import the clone.
    subprocess.run([str(part) for part in command], check=True, cwd=BUILD)


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    main()
