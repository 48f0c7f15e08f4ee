"""Build the wheel of Horovod for the torch of a virtual environment, once per user and set of versions.

Horovod 0.28.1, the last release, requires C++14, which cannot compile a current torch. This module downloads
its source distribution, raises the standard, and keeps the wheel in the user's cache.

    python3 .ci/build_horovod.py .venv/bin/python       prints the path of the wheel
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from horovod_settings import Toolkit, Torch, build_settings, choose_backends, source_changes

VERSION = "0.28.1"
CMAKE = "cmake==3.31.6"  # used if the machine has none

# Run by the Python of the environment: version, compile options and NCCL of its torch.
TORCH_SCRIPT = """
import importlib.metadata as md, json, re, sys, torch
config = open(torch.utils.cmake_prefix_path + "/Torch/TorchConfig.cmake").read()
nccl = [str(f.locate()) for d in md.distributions() if (d.metadata["Name"] or "").startswith("nvidia-nccl")
        for f in d.files or () if f.name in ("nccl.h", "libnccl.so.2")]
flags = torch._C._cuda_getArchFlags() or "" if torch.version.cuda else ""
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "cxx_standard": max([17, *map(int, re.findall(r"CXX_STANDARD (\\d+)", config))]),
    "archs": sorted({int(a) for a in re.findall(r"sm_(\\d+)\\b", flags)}),
    "nccl_header": next((f for f in nccl if f.endswith("nccl.h")), None),
    "nccl_library": next((f for f in nccl if f.endswith("libnccl.so.2")), None),
    "python_tag": "cp%d%d" % sys.version_info[:2],
}))
"""


class SetUpError(Exception):
    """An error that the user can fix; printed without a stack trace."""


def horovod_wheel(python: Path, log: IO[str]) -> Path:
    """Return the wheel for the torch that `python` imports, from the cache or newly built."""
    torch = Torch(**json.loads(subprocess.check_output([python, "-c", TORCH_SCRIPT])))
    toolkit = find_toolkit() if torch.cuda else None
    backends, reason = choose_backends(torch, toolkit)
    if reason:
        say(f"{reason}: Horovod is built with Gloo, which runs on the CPU")
    for backend in backends:
        folder = cache_folder() / f"horovod-{VERSION}-torch{torch.version}-{torch.python_tag}-{backend}"
        failed = folder / f"failed-{platform.machine()}.log"
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):  # of two concurrent set-ups one builds and the other uses the wheel
            if wheel := next(iter(sorted(folder.glob(f"*{platform.machine()}.whl"))), None):
                return wheel
            if not failed.exists():
                try:
                    return build(python, torch, toolkit, backend, folder, log)
                except subprocess.CalledProcessError as error:
                    if backend == backends[-1] or "wheel" not in error.cmd:
                        raise
                    shutil.copy(log.name, failed)
            say(f"Horovod cannot be built with NCCL, so it is built with Gloo; to try again, remove {failed}")
    raise AssertionError("the last backend returns or raises")


def build(
    python: Path, torch: Torch, toolkit: Toolkit | None, backend: str, folder: Path, log: IO[str]
) -> Path:
    if reason := build_obstacle():
        raise SetUpError(reason)
    pip = [python, "-m", "pip"]
    with tempfile.TemporaryDirectory(prefix="horovod-") as temporary:
        here = Path(temporary)
        fetch = ["download", "--no-deps", "--no-build-isolation", "--no-binary", "horovod", "-d", here]
        run([*pip, *fetch, f"horovod=={VERSION}"], log)
        shutil.unpack_archive(here / f"horovod-{VERSION}.tar.gz", here)
        source = here / f"horovod-{VERSION}"
        change_source(source, source_changes(backend, torch))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
        environment |= build_settings(backend, torch, toolkit, nccl_home=here / "nccl", num_jobs=num_jobs())
        environment["HOROVOD_CMAKE"] = cmake(pip, here / "cmake", log)
        if "HOROVOD_NCCL_HOME" in environment:
            link_nccl(here / "nccl", torch)
        run(
            [*pip, "wheel", "--no-build-isolation", "--no-deps", "-v", "-w", here / "out", source],
            log,
            environment,
        )
        (built,) = (here / "out").glob("*.whl")
        # Renamed when the copy is complete.
        shutil.copy(built, folder / "unfinished")
        return (folder / "unfinished").replace(folder / built.name)


def change_source(source: Path, changes: list[tuple[str, str, str]]) -> None:
    for name, old, new in changes:
        text = (source / name).read_text()
        if old not in text:
            raise SetUpError(f"expected '{old}' in {name} of horovod {VERSION}; the source has changed")
        (source / name).write_text(text.replace(old, new))


def link_nccl(home: Path, torch: Torch) -> None:
    """Link the NCCL of torch in the layout that CMake expects: torch's package has no plain libnccl.so."""
    (home / "lib").mkdir(parents=True)
    (home / "include").symlink_to(Path(torch.nccl_header).parent)
    (home / "lib/libnccl.so").symlink_to(torch.nccl_library)


def cmake(pip: list[Path | str], target: Path, log: IO[str]) -> str:
    installed = shutil.which("cmake")
    if installed:
        version = re.search(
            r"version (\d+)\.(\d+)", subprocess.check_output([installed, "--version"], text=True)
        )
        if version and (int(version[1]), int(version[2])) >= (3, 17):
            return installed
    run([*pip, "install", "--no-deps", "--target", target, CMAKE], log)
    return str(target / "cmake/data/bin/cmake")


def find_toolkit() -> Toolkit | None:
    candidates = [f"{os.environ.get('CUDA_HOME')}/bin/nvcc", "nvcc", "/usr/local/cuda/bin/nvcc"]
    nvcc = next(filter(None, map(shutil.which, candidates)), None)
    if nvcc is None:
        return None

    def run_nvcc(*arguments: str) -> str:
        return subprocess.run(
            [nvcc, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ).stdout

    with tempfile.NamedTemporaryFile(suffix=".cu") as empty:
        # nvcc prints its own folder, whatever links and wrapper scripts start it.
        location = re.search(r"_HERE_=(.+)", run_nvcc("--dryrun", empty.name))
    version = re.search(r"release (\d+\.\d+)", run_nvcc("--version"))
    archs = sorted({int(arch) for arch in re.findall(r"compute_(\d+)\b", run_nvcc("--list-gpu-arch"))})
    if not (location and version and archs):
        return None
    return Toolkit(home=str(Path(location[1].strip()).parent), version=version[1], archs=archs)


def build_obstacle() -> str | None:
    """Return what the machine lacks for a build, in one line, or None."""
    if not any(map(shutil.which, [os.environ.get("CXX") or "c++", "g++", "clang++"])):
        return "a C++ compiler is missing (Horovod is built once): apt-get install g++"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are missing (Horovod is built once): apt-get install python3-dev"
    return None


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepfm-spark"


def num_jobs() -> int:
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return max(
        1, min(os.cpu_count() or 1, int(memory_gib / 2))
    )  # compiling torch's headers takes 1-2 GiB per job


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        # Child processes inherit the lock: a pip that outlives a killed set-up still writes.
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(line: str) -> None:
    print(f"set-up: {line}", file=sys.stderr, flush=True)


def run(command: list[Path | str], log: IO[str], environment: dict[str, str] | None = None) -> None:
    """Run a command with its output in the log; raises CalledProcessError if it fails."""
    log.write(f"$ {' '.join(map(str, command))}\n")
    log.flush()
    subprocess.run(
        command,
        check=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        close_fds=False,
    )


if __name__ == "__main__":
    with tempfile.NamedTemporaryFile("w", prefix="horovod-", suffix=".log", delete=False) as build_log:
        print(f"log: {build_log.name}", file=sys.stderr)
        print(horovod_wheel(Path(sys.argv[1]), build_log))
