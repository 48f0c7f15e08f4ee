"""Build settings of Horovod for a version of torch and a CUDA toolkit; nothing here runs a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Torch:
    version: str  # with the local part, e.g. 2.13.0+cpu
    cuda: str | None  # e.g. 13.0; None for a build without CUDA
    cxx_standard: int
    archs: list[int]  # compute capabilities that it has kernels for
    nccl_header: str | None
    nccl_library: str | None
    python_tag: str


@dataclass(frozen=True)
class Toolkit:
    home: str
    version: str  # e.g. 13.0
    archs: list[int]


def choose_backends(torch: Torch, toolkit: Toolkit | None) -> tuple[list[str], str]:
    """Return the backends to try, best first, and the reason if a CUDA build of torch cannot use NCCL."""
    if torch.cuda is None:
        return ["gloo"], ""
    if toolkit is None:
        return ["gloo"], f"torch {torch.version} has CUDA but there is no nvcc"
    if toolkit.version.split(".")[0] != torch.cuda.split(".")[0]:
        # Both headers are compiled into one library.
        return [
            "gloo"
        ], f"torch {torch.version} was built for CUDA {torch.cuda} but nvcc is {toolkit.version}"
    return ["nccl", "gloo"], ""


def cuda_archs(torch: Torch, toolkit: Toolkit) -> list[int]:
    """Return the architectures that both torch and nvcc support, or the newest one of nvcc."""
    return sorted(set(torch.archs) & set(toolkit.archs)) or toolkit.archs[-1:]


def build_settings(
    backend: str, torch: Torch, toolkit: Toolkit | None, *, nccl_home: Path, num_jobs: int
) -> dict[str, str]:
    """Return the environment variables that Horovod's setup.py and CMake files read."""
    settings = {
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITHOUT_MPI": "1",
        # The -j8 of setup.py needs a larger machine; a MAKEFLAGS inherited from `make` would mean one job.
        "MAKEFLAGS": f"-j{num_jobs}",
        # CMake 4 refuses the bundled Gloo's minimum of 2.8 without this.
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
    }
    if backend == "gloo":
        return settings
    settings |= {
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_NCCL_LINK": "SHARED",
        "HOROVOD_BUILD_CUDA_CC_LIST": ",".join(map(str, cuda_archs(torch, toolkit))),
        # The real folder: if nvcc on the PATH is a wrapper, torch and CMake would search next to the wrapper.
        "CUDA_HOME": toolkit.home,
        "HOROVOD_CUDA_HOME": toolkit.home,
        "CUDACXX": f"{toolkit.home}/bin/nvcc",
    }
    if torch.nccl_library:  # otherwise CMake searches the machine
        settings["HOROVOD_NCCL_HOME"] = str(nccl_home)
    return settings


def source_changes(backend: str, torch: Torch) -> list[tuple[str, str, str]]:
    """Return (file, old text, new text) of the changes that make the source compile, or compile faster."""
    standard = f"CMAKE_CXX_STANDARD {torch.cxx_standard})"
    old_abi_gloo = "add_subdirectory(third_party/compatible_gloo"
    changes = [
        ("CMakeLists.txt", "CMAKE_CXX_STANDARD 14)", standard),
        ("horovod/torch/CMakeLists.txt", "CMAKE_CXX_STANDARD 14)", standard),
        # The second Gloo, for the old C++ ABI of torch, is compiled only if it is linked.
        ("CMakeLists.txt", f"{old_abi_gloo})", f"{old_abi_gloo} EXCLUDE_FROM_ALL)"),
        # Debug symbols take a third of the time and nine tenths of the wheel.
        ("setup.py", "'RelWithDebInfo'", "'Release'"),
    ]
    if backend == "nccl":
        return [
            *changes,
            ("CMakeLists.txt", "${CMAKE_CUDA_FLAGS} -std=c++11", "${CMAKE_CUDA_FLAGS} -std=c++17"),
            ("horovod/common/ops/cuda/CMakeLists.txt", "CMAKE_CUDA_STANDARD 11", "CMAKE_CUDA_STANDARD 17"),
        ]
    # Horovod always searches for CUDA, and an incomplete toolkit stops the build.
    return [
        *changes,
        ("CMakeLists.txt", "check_language(CUDA)", ""),
        ("CMakeLists.txt", "enable_language(CUDA)", ""),
        ("cmake/Modules/FindPytorch.cmake", "(CUDA_HOME is not None)", "False"),
    ]
