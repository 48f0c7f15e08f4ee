"""`make pack`: what the jobs need of .venv, and this project, as one archive for a cluster's executors.

venv-pack refuses an editable install, and .venv has one. So a second environment is put together in build/:
the packages that setup.py asks for, as links to .venv's files, and the project itself as a wheel. Tests,
linters and notebooks stay behind, and so do Spark's jars: executors run the Spark of their cluster.
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
LEFT_OUT = ("pyspark/jars/", "pyspark/examples/", "pyspark/data/", "torch/include/", "torch/test/")
VERIFY = "import deepfm, horovod.torch, mlflow, petastorm, pyarrow, torch; print(deepfm.__file__)"


def main() -> None:
    started = time.monotonic()
    for old in (ENVIRONMENT, WHEELS, BUILD / "lib"):  # a module that is gone must not come back from lib
        shutil.rmtree(old, ignore_errors=True)
    make_environment()
    packages = {name: found for name, found in needed(PROJECT, EXTRAS).items() if name != PROJECT}
    for package in packages.values():
        link_files(package)
    install_project()
    run(ENVIRONMENT / "bin/python", "-c", VERIFY)
    venv_pack.pack(
        str(ENVIRONMENT),
        output=str(ARCHIVE),
        python_prefix=os.environ.get("HOST_PYTHON_PREFIX") or None,
        compress_level=1,  # libraries are most of it: level 9 takes minutes for a twentieth less
        force=True,
    )
    size = ARCHIVE.stat().st_size / 2**20
    seconds = time.monotonic() - started
    print(f"{ARCHIVE}: {len(packages) + 1} packages, {size:.0f} MiB, in {seconds:.0f} s; it needs {python()}")


def make_environment() -> None:
    """An empty one, of the Python that .venv was made from."""
    run(sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT)


def needed(name: str, extras: set[str]) -> dict[str, Distribution]:
    """What is installed of the packages that a package needs, itself included, by name."""
    found: dict[str, Distribution] = {}
    asked = [(canonicalize_name(name), extras)]
    while asked:
        name, extras = asked.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # for another system, or left out of requirements.lock on purpose
        for line in found[name].requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                asked.append((canonicalize_name(requirement.name), requirement.extras | {""}))
    return found


def link_files(package: Distribution) -> None:
    """The package's files in site-packages; its commands are of no use to an executor."""
    for file in package.files or ():
        if file.parts[0] == ".." or file.as_posix().startswith(LEFT_OUT):
            continue
        source = Path(package.locate_file(file))
        target = site_packages() / file
        if source.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link(source, target)


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the filesystem has none or build/ is on another one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def install_project() -> None:
    """As a wheel, so that nothing in the archive points back here."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--use-pep517", "-w", WHEELS, ROOT)
    (wheel,) = WHEELS.glob("*.whl")
    run(*pip, "--python", ENVIRONMENT / "bin/python", "install", "--no-deps", "--no-index", wheel)


def site_packages() -> Path:
    return ENVIRONMENT / "lib" / f"python{python_version()}" / "site-packages"


def python_version() -> str:
    return "{}.{}".format(*sys.version_info)


def python() -> str:
    """Where every host must have its Python: an environment links to it and does not hold it."""
    prefix = os.environ.get("HOST_PYTHON_PREFIX") or sys.base_prefix
    return f"{prefix}/bin/python{python_version()} on every host"


def run(*command) -> None:
    # From elsewhere: in this folder `import deepfm` would find the clone.
    subprocess.run([str(part) for part in command], check=True, cwd=BUILD)


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    main()
