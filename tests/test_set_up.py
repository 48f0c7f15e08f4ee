"""Set-up: choice of the Horovod build, requirements of the machine, and `make pack`."""

import importlib
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[1] / ".ci"


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.syspath_prepend(str(CI))
    return importlib.import_module("horovod_settings")


@pytest.fixture
def set_up(monkeypatch):
    monkeypatch.syspath_prepend(str(CI))
    return importlib.import_module("set_up")


@pytest.fixture
def pack(monkeypatch):
    monkeypatch.syspath_prepend(str(CI))
    return importlib.import_module("pack")


def torch_build(settings, cuda, archs=(80, 90), nccl="/venv/nvidia/nccl/lib/libnccl.so.2"):
    return settings.Torch(
        version="2.13.0",
        cuda=cuda,
        cxx_standard=20,
        archs=list(archs),
        nccl_header=nccl and "/venv/nvidia/nccl/include/nccl.h",
        nccl_library=nccl,
        python_tag="cp311",
    )


def toolkit(settings, version="13.0"):
    return settings.Toolkit(home="/opt/cuda", version=version, archs=[75, 80, 90, 100])


def test_torch_without_cuda_gets_gloo_and_no_message(settings):
    assert settings.choose_backends(torch_build(settings, cuda=None), toolkit(settings)) == (["gloo"], "")


def test_torch_with_cuda_and_nvcc_gets_nccl_and_falls_back_to_gloo(settings):
    assert settings.choose_backends(torch_build(settings, "13.0"), toolkit(settings)) == (
        ["nccl", "gloo"],
        "",
    )


def test_torch_with_cuda_but_without_nvcc_gets_gloo_and_a_reason(settings):
    assert settings.choose_backends(torch_build(settings, "13.0"), None) == (
        ["gloo"],
        "torch 2.13.0 has CUDA but there is no nvcc",
    )


def test_an_nvcc_of_another_major_version_than_torchs_cuda_is_not_used(settings):
    backends, reason = settings.choose_backends(torch_build(settings, "12.6"), toolkit(settings))
    assert backends == ["gloo"]
    assert "CUDA 12.6 but nvcc is 13.0" in reason


def test_kernels_are_built_for_the_architectures_that_torch_and_nvcc_share(settings):
    assert settings.cuda_archs(torch_build(settings, "13.0", archs=[50, 80, 90]), toolkit(settings)) == [
        80,
        90,
    ]


def test_kernels_are_built_for_the_newest_architecture_if_torch_lists_none(settings):
    assert settings.cuda_archs(torch_build(settings, "13.0", archs=[]), toolkit(settings)) == [100]


def build_settings(settings, backend, torch):
    return settings.build_settings(backend, torch, toolkit(settings), nccl_home=Path("/tmp/nccl"), num_jobs=2)


def test_a_gloo_build_has_no_cuda_settings(settings):
    variables = build_settings(settings, "gloo", torch_build(settings, "13.0"))
    assert not [name for name in variables if "CUDA" in name or "NCCL" in name or "GPU" in name]
    assert variables["HOROVOD_WITH_GLOO"] == "1"


def test_an_nccl_build_uses_the_toolkit_and_the_nccl_of_torch(settings):
    variables = build_settings(settings, "nccl", torch_build(settings, "13.0"))
    assert variables["CUDA_HOME"] == "/opt/cuda"
    assert variables["CUDACXX"] == "/opt/cuda/bin/nvcc"
    assert variables["HOROVOD_NCCL_HOME"] == "/tmp/nccl"
    assert variables["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert variables["HOROVOD_BUILD_CUDA_CC_LIST"] == "80,90"


def test_an_nccl_build_searches_the_machine_if_torch_has_no_nccl(settings):
    assert "HOROVOD_NCCL_HOME" not in build_settings(
        settings, "nccl", torch_build(settings, "13.0", nccl=None)
    )


def test_horovod_is_compiled_with_the_cxx_standard_of_torch(settings):
    changes = settings.source_changes("gloo", torch_build(settings, cuda=None))
    assert ("CMakeLists.txt", "CMAKE_CXX_STANDARD 14)", "CMAKE_CXX_STANDARD 20)") in changes


def test_only_an_nccl_build_searches_for_cuda(settings):
    def removed(backend):
        return {old for _, old, _ in settings.source_changes(backend, torch_build(settings, "13.0"))}

    assert "enable_language(CUDA)" in removed("gloo")
    assert "enable_language(CUDA)" not in removed("nccl")


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_412"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("The operation couldn't be completed.", None),
    ],
)
def test_the_java_version_is_parsed_from_the_output_of_java(set_up, answer, version):
    assert set_up.java_version(answer) == version


def java_that_prints(folder, text):
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
    java.chmod(0o755)


def test_an_old_java_is_refused_with_the_required_version(set_up, tmp_path, monkeypatch):
    java_that_prints(tmp_path, 'java version "1.8.0_412"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    reason = set_up.java_obstacle()
    assert reason.startswith("Java 17 or newer is needed") and "is 8" in reason and "apt-get" in reason


def test_a_java_home_without_java_is_refused(set_up, tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert set_up.java_obstacle() == f"JAVA_HOME is {tmp_path} but has no bin/java"


def test_a_missing_java_is_refused_with_the_command_that_installs_it(set_up, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert set_up.java_obstacle() == "Java 17 or newer is missing: apt-get install openjdk-17-jre-headless"


@pytest.mark.parametrize(
    ("version", "fits"), [((3, 9), False), ((3, 10), True), ((3, 12), True), ((3, 13), False)]
)
def test_only_supported_python_versions_are_accepted(set_up, version, fits):
    assert (set_up.python_obstacle(version) is None) == fits


def test_all_pins_are_exact_and_set_up_builds_the_pinned_horovod(set_up):
    lock = set_up.LOCK.read_text()
    pins = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert [pin for pin in pins if "==" not in pin] == []
    assert set_up.pinned("horovod", lock) == set_up.HOROVOD_VERSION
    rest = set_up.without_horovod(lock).splitlines()
    assert len(rest) == len(lock.splitlines()) - 1 and not any(pin.startswith("horovod") for pin in rest)


def test_a_child_process_keeps_the_lock(set_up, tmp_path):
    """A pip that outlives a killed set-up still writes, so no other set-up may start."""
    import fcntl
    import subprocess

    with set_up.locked(tmp_path / "lock"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with (tmp_path / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child.communicate(b"\n")
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# make pack


def test_files_are_packed_as_hard_links(pack, tmp_path):
    (tmp_path / "module.py").write_text("x = 1")
    pack.link(tmp_path / "module.py", tmp_path / "linked.py")
    assert (tmp_path / "linked.py").samefile(tmp_path / "module.py")


def test_files_are_copied_to_another_filesystem(pack, tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one filesystem only")
    (tmp_path / "module.py").write_text("x = 1")
    with tempfile.TemporaryDirectory(dir=other) as folder:
        pack.link(tmp_path / "module.py", Path(folder, "copied.py"))
        assert Path(folder, "copied.py").read_text() == "x = 1"
