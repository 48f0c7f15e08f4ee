"""Lock files: one holder at a time, and no files left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepfm.errors import JobFailedError, UserError
from deepfm.lock import exclusive_lock, lock_file


def test_a_second_holder_gets_an_error_with_the_process_and_a_later_one_does_not(tmp_path):
    path = tmp_path / "locks" / "study.lock"
    with exclusive_lock(path, "study x", "give another --study"):
        message = f"study x is in use by process {os.getpid()}; wait until it ends, or give"
        with (
            pytest.raises(JobFailedError, match=message),
            exclusive_lock(path, "study x", "give another --study"),
        ):
            pass
    with exclusive_lock(path, "study x", ""):
        pass


@pytest.mark.parametrize("kind", ["dangling link", "file", "not permitted"])
def test_a_lock_in_a_folder_that_cannot_be_created_is_a_user_error(kind, tmp_path):
    folder = tmp_path / "folder"
    if kind == "dangling link":
        folder.symlink_to(tmp_path / "missing")
    elif kind == "file":
        folder.touch()
    else:
        folder = Path("/proc/folder")
    message = f"{folder}/locks/run.lock: cannot use this lock file: "
    with pytest.raises(UserError, match=message), exclusive_lock(folder / "locks" / "run.lock", "run", ""):
        pass


def test_no_files_are_left_behind(tmp_path):
    with (
        exclusive_lock(tmp_path / "locks" / "a.lock", "a", ""),
        exclusive_lock(tmp_path / "locks" / "b.lock", "b", ""),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "study.db").write_text("trials")
    with exclusive_lock(tmp_path / "study.lock", "study", ""):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


def test_the_lock_is_in_the_work_dir_on_a_file_system_else_in_a_temporary_folder_of_the_user(
    monkeypatch, tmp_path
):
    """Two users of one machine with runs on HDFS must not share a folder that only one of them can write."""
    assert lock_file(f"file://{tmp_path}", "run") == tmp_path / "locks" / "run.lock"
    temporary = lock_file("hdfs:///ctr/runs", "run")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert lock_file("hdfs:///ctr/runs", "run").parent != temporary.parent


def test_only_one_of_many_processes_holds_the_lock(tmp_path):
    """Each increments a number in a file; if two held the lock at once, an increment would be lost."""
    (tmp_path / "number").write_text("0")
    script = f"""
from pathlib import Path
from deepfm.errors import JobFailedError
from deepfm.lock import exclusive_lock
num, number = 0, Path({str(tmp_path)!r}) / "number"
while num < 200:
    try:
        with exclusive_lock(number.parent / "locks" / "number.lock", "number", ""):
            number.write_text(str(int(number.read_text()) + 1))
            num += 1
    except JobFailedError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert (tmp_path / "number").read_text() == "800"
