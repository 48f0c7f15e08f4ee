"""One process at a time does a thing, and leaves nothing of it."""

import os
import subprocess
import sys

import pytest

from deepfm.errors import UserError
from deepfm.lock import lock_file, locked


def test_a_second_one_is_told_who_has_it_and_a_later_one_is_not(tmp_path):
    path = tmp_path / "locks" / "study.lock"
    with locked(path, "study x", "give another --study"):
        told = (
            f"study x: expected it to be free, found process {os.getpid()} using it; wait for that, or give"
        )
        with pytest.raises(UserError, match=told), locked(path, "study x", "give another --study"):
            pass
    with locked(path, "study x", ""):
        pass


def test_nothing_of_it_stays(tmp_path):
    with locked(tmp_path / "locks" / "a.lock", "a", ""), locked(tmp_path / "locks" / "b.lock", "b", ""):
        pass
    assert not list(tmp_path.iterdir())


def test_other_files_beside_it_stay(tmp_path):
    (tmp_path / "study.db").write_text("trials")
    with locked(tmp_path / "study.lock", "study", ""):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


def test_it_lies_in_the_work_dir_where_that_is_among_files_else_in_a_folder_of_the_users_own(
    monkeypatch, tmp_path
):
    """Two users of one machine with their runs on HDFS must not meet in a folder that one of them owns."""
    assert lock_file(f"file://{tmp_path}", "run") == tmp_path / "locks" / "run.lock"
    beside = lock_file("hdfs:///ctr/runs", "run")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert lock_file("hdfs:///ctr/runs", "run").parent != beside.parent


def test_of_many_processes_one_at_a_time_has_it(tmp_path):
    """Each adds one to a number that it reads and writes again: where two had it, one's would be lost."""
    (tmp_path / "number").write_text("0")
    script = f"""
from pathlib import Path
from deepfm.errors import UserError
from deepfm.lock import locked
num, number = 0, Path({str(tmp_path)!r}) / "number"
while num < 200:
    try:
        with locked(number.parent / "locks" / "number.lock", "number", ""):
            number.write_text(str(int(number.read_text()) + 1))
            num += 1
    except UserError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert (tmp_path / "number").read_text() == "800"
