"""What is installed beside what is wanted."""

import pytest
from packaging.requirements import Requirement

from deepfm.doctor import installed, machine

CPU = {"cuda": None, "gpus": [], "amx": True, "avx512_bf16": False, "gpu_bf16": False}
CUDA = {**CPU, "cuda": "13.0", "gpus": ["H100"], "gpu_bf16": True}
GLOO, NCCL = {"gloo": True, "nccl": False}, {"gloo": True, "nccl": True}


def level_of(found, wanted="torch>=2.6", pin="2.13.0"):
    ranges = {"torch": Requirement(wanted)}
    (finding, others) = installed.check_packages({"torch": found}, ranges, {"torch": pin} if pin else {})
    assert others.level == "green"
    return finding.level


def test_a_version_is_compared_with_the_range_and_with_the_lock():
    assert level_of("2.13.0") == "green"
    assert level_of("2.13.0+cpu") == "green"
    assert level_of("2.12.1") == "yellow"
    assert level_of("2.12.1", pin=None) == "green"
    assert level_of("2.5.0") == "red"
    assert level_of(None) == "red"


def test_a_missing_package_is_told_with_the_line_that_installs_it():
    ranges = {name: Requirement(name) for name in ("numpy", "rich", "safetensors")}
    pins = {"numpy": "1.26.4", "safetensors": "0.5.3"}
    found = {"numpy": "1.26.4", "rich": "14.0.0", "safetensors": None}
    numpy, safetensors = installed.check_packages(found, ranges, pins)
    assert numpy.level == "green"
    assert (safetensors.what, safetensors.level) == ("safetensors", "red")
    assert "pip install 'safetensors==0.5.3'" in safetensors.remedy


def test_what_is_wanted_comes_from_the_packages_metadata_and_the_lock():
    lock = (
        "# a comment\nnumpy==1.26.4\nwheel==1 ; sys_platform == 'none'\nrich==14.0.0 ; python_version > '3'\n"
    )
    ranges, pins = installed.wanted_packages("deepfm-spark", lock)
    assert str(ranges["numpy"].specifier) == "<2"
    assert "horovod" in ranges and "pytest" not in ranges
    assert pins == {"numpy": "1.26.4", "rich": "14.0.0"}
    assert installed.wanted_packages("nothing-of-that-name", "") == ({}, {})


def test_builds_are_asked_in_a_process_of_their_own(program):
    """One that dies, as with a library that was built for another PyTorch."""
    dead = installed.probe_builds(
        str(program("python", "echo 'undefined symbol' >&2; kill -SEGV $$") / "python")
    )
    assert dead == {"error": "undefined symbol"}
    assert installed.check_torch(dead).level == installed.check_horovod(dead).level == "red"
    assert "error" in installed.probe_builds("/nowhere/python")


def test_what_makes_the_environment_anew_removes_nothing_else():
    dead = {"error": "undefined symbol"}
    python = machine.check_python((3, 9), "python")
    findings = [installed.check_torch(dead), installed.check_gpus(CPU, 2, wanted=True), python]
    assert [f for f in findings if "rm -rf .venv && make env" not in f.remedy] == []
    assert "horovod-* && rm -rf .venv && make env" in installed.check_horovod(dead).remedy


@pytest.mark.parametrize(
    ("build", "level", "told"),
    [
        ({**CPU, "horovod": GLOO}, "green", "Gloo"),
        ({**CUDA, "horovod": NCCL}, "green", "Gloo, NCCL"),
        ({**CUDA, "horovod": GLOO}, "yellow", "cannot train on the GPUs"),
        ({**CPU, "horovod": {"gloo": False, "nccl": False}}, "red", "nothing, wanted Gloo"),
        ({**CPU, "horovod_error": "ImportError: undefined symbol"}, "red", "undefined symbol"),
    ],
)
def test_horovod_must_be_built_for_what_there_is(build, level, told):
    finding = installed.check_horovod(build)
    assert (finding.level, told in finding.found) == (level, True)


def test_how_bf16_is_multiplied_is_told():
    assert "bf16 by AMX" in installed.check_torch(CPU).found
    assert "CUDA 13.0; bf16 by AMX, the GPU" in installed.check_torch(CUDA).found
    assert "no bf16 in hardware" in installed.check_torch({**CPU, "amx": False}).found


@pytest.mark.parametrize(
    ("build", "driver_sees", "wanted", "level"),
    [(CPU, 0, False, "green"), (CPU, 0, True, "red"), (CPU, 2, True, "yellow"), (CUDA, 1, True, "green")],
)
def test_gpus_that_are_asked_for_must_be_there(build, driver_sees, wanted, level):
    assert installed.check_gpus(build, driver_sees, wanted=wanted).level == level
