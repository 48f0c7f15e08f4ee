"""The doctor's look at a machine, with machines that lack something."""

import os
import subprocess
from collections import namedtuple

import pytest

from deepfm.doctor import machine

GIB = 2**30
BIN = os.defpath.replace(":.", "")


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 9), "red"), ((3, 10), "green"), ((3, 12), "green"), ((3, 13), "red")],
)
def test_pythons_that_pyarrow_has_wheels_for_are_well(version, level):
    assert machine.check_python(version, "python").level == level


@pytest.mark.parametrize(
    ("answer", "level", "told"),
    [
        ('openjdk version "17.0.15" 2025-04-15', "green", "17"),
        ('openjdk version "11.0.2" 2019-01-15', "red", "is Java 11, wanted 17 or newer"),
        ('java version "1.8.0_412"', "red", "is Java 8"),
        ('openjdk version "25" 2025-09-16', "yellow", "25"),
        ("java: command is a stand-in", "red", "-version failed"),
    ],
)
def test_the_java_on_the_path_is_asked_its_version(program, answer, level, told):
    folder = program("java", f"echo '{answer}' >&2")
    finding = machine.check_java({"PATH": str(folder)})
    assert (finding.level, told in finding.found) == (level, True)
    assert str(folder) in finding.found
    assert level == "green" or "apt-get install openjdk-17-jre-headless" in finding.remedy


def test_a_java_that_does_not_start_is_told(program):
    folder = program("java", "")
    (folder / "java").write_bytes(b"\x7fELF, of another machine")
    assert machine.check_java({"PATH": str(folder)}).level == "red"


def test_java_home_wins_over_the_path(program, tmp_path):
    folder = program("java", "echo 'openjdk version \"17.0.1\"' >&2")
    assert machine.check_java({"PATH": str(folder)}).level == "green"
    finding = machine.check_java({"PATH": str(folder), "JAVA_HOME": str(tmp_path / "gone")})
    assert finding.level == "red"
    assert f"JAVA_HOME is {tmp_path / 'gone'}, which has no bin/java" in finding.found


def test_no_java_at_all_is_told(tmp_path):
    assert machine.check_java({"PATH": str(tmp_path)}).found.startswith("found none on the PATH")


def test_a_compiler_is_needed_until_horovod_is_built(program, tmp_path):
    folder = program("g++", "")
    (tmp_path / "Python.h").touch()

    def level(path, include, horovod):
        return machine.check_compiler({"PATH": str(path)}, str(include), horovod_is_there=horovod).level

    assert level(folder, tmp_path, False) == "green"
    assert level(tmp_path, tmp_path, False) == "red"
    assert level(tmp_path, tmp_path, True) == "yellow"
    assert level(folder, folder, False) == "red"


@pytest.mark.parametrize(
    ("total", "available", "level"), [(8, 6, "green"), (8, 4, "yellow"), (4, 4, "red")], ids=str
)
def test_memory_is_compared_with_what_the_profile_wants(total, available, level):
    assert machine.check_memory(total * GIB, available * GIB, 5 * GIB).level == level


@pytest.mark.parametrize(("free", "level"), [(20, "green"), (5, "yellow"), (0.5, "red")])
def test_free_disk_is_that_of_the_nearest_folder_there_is(monkeypatch, tmp_path, free, level):
    usage = namedtuple("usage", "total used free")
    asked = []

    def disk_usage(path):
        asked.append(path)
        return usage(100 * GIB, 0, int(free * GIB))

    monkeypatch.setattr(machine.shutil, "disk_usage", disk_usage)
    assert machine.check_disk("disk", tmp_path / "not" / "yet").level == level
    assert asked == [tmp_path]


def test_a_link_to_a_disk_that_is_not_mounted_is_told(tmp_path):
    (tmp_path / "work").symlink_to(tmp_path / "away")
    found = machine.check_disk("disk", tmp_path / "work" / "runs")
    assert (found.level, str(tmp_path / "work") in found.found) == ("red", True)


def test_a_disk_that_is_full_is_told(tmp_path):
    """A real one, of one page."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        (tmp_path / "full").write_bytes(b"x" * 4096)
        assert machine.check_disk("disk", tmp_path).level == "red"
        assert "No space left" in machine.check_writable("work_dir", tmp_path).found
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    assert machine.check_writable("work_dir", tmp_path / "work" / "runs").level == "green"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_told(tmp_path):
    (tmp_path / "notes.txt").touch()
    finding = machine.check_writable("work_dir", tmp_path / "notes.txt" / "runs")
    assert finding.level == "red"
    assert "notes.txt cannot be written" in finding.found


def test_a_folder_that_is_read_only_is_told(tmp_path):
    """Where even root writes nothing, and where others may not."""
    assert machine.check_writable("work_dir", machine.Path("/proc/runs")).level == "red"
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert machine.check_writable("work_dir", tmp_path / "runs").level == "red"
