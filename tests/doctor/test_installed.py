"""The doctor compares installed packages with the required ones."""

import pytest
from packaging.requirements import Requirement

from deepfm.doctor import installed, machine

CPU = {"cuda": None, "gpus": [], "amx": True, "avx512_bf16": False, "gpu_bf16": False}
CUDA = {**CPU, "cuda": "13.0", "gpus": ["H100"], "gpu_bf16": True}
GLOO, NCCL = {"gloo": True, "nccl": False}, {"gloo": True, "nccl": True}


def level_of(version, requirement="torch>=2.6", pin="2.13.0"):
    ranges = {"torch": Requirement(requirement)}
    (finding, others) = installed.check_packages({"torch": version}, ranges, {"torch": pin} if pin else {})
    assert others.level == "green"
    return finding.level


def test_a_version_is_compared_with_the_range_and_with_the_lock():
    assert level_of("2.13.0") == "green"
    assert level_of("2.13.0+cpu") == "green"
    assert level_of("2.12.1") == "yellow"
    assert level_of("2.12.1", pin=None) == "green"
    assert level_of("2.5.0") == "red"
    assert level_of(None) == "red"


def test_a_missing_package_is_reported_with_its_install_command():
    ranges = {name: Requirement(name) for name in ("numpy", "rich", "safetensors")}
    pins = {"numpy": "1.26.4", "safetensors": "0.5.3"}
    versions = {"numpy": "1.26.4", "rich": "14.0.0", "safetensors": None}
    numpy, safetensors = installed.check_packages(versions, ranges, pins)
    assert numpy.level == "green"
    assert (safetensors.what, safetensors.level) == ("safetensors", "red")
    assert "pip install 'safetensors==0.5.3'" in safetensors.remedy


def test_requirements_come_from_the_package_metadata_and_the_lock():
    lock = (
        "# a comment\nnumpy==1.26.4\nwheel==1 ; sys_platform == 'none'\nrich==14.0.0 ; python_version > '3'\n"
    )
    ranges, pins = installed.required_packages("deepfm-spark", lock)
    assert str(ranges["numpy"].specifier) == "<2"
    assert "horovod" in ranges and "pytest" not in ranges
    assert pins == {"numpy": "1.26.4", "rich": "14.0.0"}
    assert installed.required_packages("nothing-of-that-name", "") == ({}, {})


def test_builds_are_probed_in_a_separate_process(program):
    """The process crashes, as with a library built for another PyTorch."""
    crashed = installed.probe_builds(
        str(program("python", "echo 'undefined symbol' >&2; kill -SEGV $$") / "python")
    )
    assert crashed == {"error": "undefined symbol"}
    assert installed.check_torch(crashed).level == installed.check_horovod(crashed).level == "red"
    assert "error" in installed.probe_builds("/nowhere/python")


def test_recreating_the_environment_removes_nothing_else():
    crashed = {"error": "undefined symbol"}
    python = machine.check_python((3, 9), "python")
    findings = [installed.check_torch(crashed), installed.check_gpus(CPU, 2, requested=True), python]
    assert [f for f in findings if "rm -rf .venv && make env" not in f.remedy] == []
    assert "horovod-* && rm -rf .venv && make env" in installed.check_horovod(crashed).remedy


@pytest.mark.parametrize(
    ("build", "level", "text"),
    [
        ({**CPU, "horovod": GLOO}, "green", "Gloo"),
        ({**CUDA, "horovod": NCCL}, "green", "Gloo, NCCL"),
        ({**CUDA, "horovod": GLOO}, "yellow", "cannot train on the GPUs"),
        ({**CPU, "horovod": {"gloo": False, "nccl": False}}, "red", "nothing, required Gloo"),
        ({**CPU, "horovod_error": "ImportError: undefined symbol"}, "red", "undefined symbol"),
    ],
)
def test_horovod_must_be_built_for_the_machine(build, level, text):
    finding = installed.check_horovod(build)
    assert (finding.level, text in finding.found) == (level, True)


def test_hardware_support_of_bf16_is_reported():
    assert "bf16 on AMX" in installed.check_torch(CPU).found
    assert "CUDA 13.0; bf16 on AMX, the GPU" in installed.check_torch(CUDA).found
    assert "no hardware bf16" in installed.check_torch({**CPU, "amx": False}).found


@pytest.mark.parametrize(
    ("build", "num_driver_gpus", "requested", "level"),
    [(CPU, 0, False, "green"), (CPU, 0, True, "red"), (CPU, 2, True, "yellow"), (CUDA, 1, True, "green")],
)
def test_requested_gpus_must_be_available(build, num_driver_gpus, requested, level):
    assert installed.check_gpus(build, num_driver_gpus, requested=requested).level == level
