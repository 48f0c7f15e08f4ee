"""The doctor reports what a machine lacks."""

import os
import subprocess
import sys
from collections import namedtuple

import pytest

from deepfm.doctor import machine

GIB = 2**30
BIN = os.defpath.replace(":.", "")


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 9), "red"), ((3, 10), "green"), ((3, 12), "green"), ((3, 13), "red")],
)
def test_only_pythons_with_pyarrow_wheels_are_green(version, level):
    assert machine.check_python(version, "python").level == level


@pytest.mark.parametrize(
    ("answer", "level", "text"),
    [
        ('openjdk version "17.0.15" 2025-04-15', "green", "17"),
        ('openjdk version "11.0.2" 2019-01-15', "red", "is Java 11, expected 17 or newer"),
        ('java version "1.8.0_412"', "red", "is Java 8"),
        ('openjdk version "25" 2025-09-16', "yellow", "25"),
        ("java: command is a stand-in", "red", "-version failed"),
    ],
)
def test_the_version_of_java_on_the_path_is_checked(program, answer, level, text):
    folder = program("java", f"echo '{answer}' >&2")
    finding = machine.check_java({"PATH": str(folder)})
    assert (finding.level, text in finding.found) == (level, True)
    assert str(folder) in finding.found
    assert level == "green" or "apt-get install openjdk-17-jre-headless" in finding.remedy


def test_a_java_that_does_not_start_is_red(program):
    folder = program("java", "")
    (folder / "java").write_bytes(b"\x7fELF, of another machine")
    assert machine.check_java({"PATH": str(folder)}).level == "red"


def test_java_home_precedes_the_path(program, tmp_path):
    folder = program("java", "echo 'openjdk version \"17.0.1\"' >&2")
    assert machine.check_java({"PATH": str(folder)}).level == "green"
    finding = machine.check_java({"PATH": str(folder), "JAVA_HOME": str(tmp_path / "gone")})
    assert finding.level == "red"
    assert f"JAVA_HOME is {tmp_path / 'gone'}, which has no bin/java" in finding.found


def test_a_missing_java_is_reported(tmp_path):
    assert machine.check_java({"PATH": str(tmp_path)}).found.startswith("found none on the PATH")


def test_variables_that_select_another_spark_are_red(tmp_path):
    def check(**environment):
        return machine.check_spark_variables(environment, sys.executable, "4.0.5", "local[2]")

    assert check().level == "green"
    finding = check(SPARK_HOME=str(tmp_path))
    assert (finding.level, finding.remedy) == ("red", "unset SPARK_HOME")
    assert finding.found == f"SPARK_HOME is {tmp_path}, which has no bin/spark-submit"


def test_a_compiler_is_needed_until_horovod_is_built(program, tmp_path):
    folder = program("g++", "")
    (tmp_path / "Python.h").touch()

    def level(path, include, horovod):
        return machine.check_compiler({"PATH": str(path)}, str(include), has_horovod=horovod).level

    assert level(folder, tmp_path, False) == "green"
    assert level(tmp_path, tmp_path, False) == "red"
    assert level(tmp_path, tmp_path, True) == "yellow"
    assert level(folder, folder, False) == "red"


@pytest.mark.parametrize(
    ("total", "available", "level"), [(8, 6, "green"), (8, 4, "yellow"), (4, 4, "red")], ids=str
)
def test_memory_is_compared_with_the_requirement_of_the_profile(total, available, level):
    assert machine.check_memory(total * GIB, available * GIB, 5 * GIB).level == level


@pytest.mark.parametrize(("free", "level"), [(20, "green"), (5, "yellow"), (0.5, "red")])
def test_free_disk_is_that_of_the_nearest_existing_folder(monkeypatch, tmp_path, free, level):
    usage = namedtuple("usage", "total used free")
    checked_paths = []

    def disk_usage(path):
        checked_paths.append(path)
        return usage(100 * GIB, 0, int(free * GIB))

    monkeypatch.setattr(machine.shutil, "disk_usage", disk_usage)
    assert machine.check_disk("disk", tmp_path / "not" / "yet").level == level
    assert checked_paths == [tmp_path]


def test_a_link_to_an_unmounted_disk_is_red(tmp_path):
    (tmp_path / "work").symlink_to(tmp_path / "unmounted")
    finding = machine.check_disk("disk", tmp_path / "work" / "runs")
    assert (finding.level, str(tmp_path / "work") in finding.found) == ("red", True)


def test_a_full_disk_is_red(tmp_path):
    """Uses a real file system of one page."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        (tmp_path / "full").write_bytes(b"x" * 4096)
        assert machine.check_disk("disk", tmp_path).level == "red"
        assert "No space left" in machine.check_writable("work_dir", tmp_path).found
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_check_of_a_writable_folder_leaves_no_files(tmp_path):
    assert machine.check_writable("work_dir", tmp_path / "work" / "runs").level == "green"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_red(tmp_path):
    (tmp_path / "notes.txt").touch()
    finding = machine.check_writable("work_dir", tmp_path / "notes.txt" / "runs")
    assert finding.level == "red"
    assert "notes.txt cannot be written" in finding.found


def test_a_read_only_folder_is_red(tmp_path):
    """One where even root cannot write, and one that is read-only for other users."""
    assert machine.check_writable("work_dir", machine.Path("/proc/runs")).level == "red"
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert machine.check_writable("work_dir", tmp_path / "runs").level == "red"
