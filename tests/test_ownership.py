"""One owner at a time for each output, on any filesystem; owners that have ended are replaced."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from deepfm import ownership, storage
from deepfm.errors import JobFailedError, UserError
from deepfm.ownership import Ownership, exclusive_ownership, is_owner_file


@pytest.fixture(params=["file", "memory"])
def folder(request, tmp_path):
    """A folder on the local filesystem, and one on a filesystem without locks and renames."""
    return f"file://{tmp_path}" if request.param == "file" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _short_times(monkeypatch):
    monkeypatch.setattr(ownership, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(ownership, "STALE_S", 0.6)
    monkeypatch.setattr(ownership, "_SETTLE_S", 0.2)


def own(folder, name="the output"):
    return exclusive_ownership(folder, "output", name, "choose another --output")


def owner_files(folder):
    return [name for name in storage.all_names(folder) if is_owner_file(name)]


def change_owner(folder, **changes):
    """Rewrite the owner's file, as if its process were another one."""
    (name,) = owner_files(folder)
    document = storage.read_json(f"{folder}/{name}") | changes
    storage.write_json(f"{folder}/{name}", document)


def write_stale_owner(folder, **changes):
    with own(folder):
        (name,) = owner_files(folder)
        document = storage.read_json(f"{folder}/{name}")
    storage.write_json(f"{folder}/{name}", document | changes)


def test_a_second_owner_is_refused_and_told_who_the_first_is(folder):
    message = f"the output is in use by process {os.getpid()} on .* since 20.*wait until it ends, or choose"
    with own(folder), pytest.raises(JobFailedError, match=message), own(folder):
        pass
    with own(folder):
        pass
    assert owner_files(folder) == []


def test_owners_of_other_outputs_in_a_folder_are_independent(folder):
    with own(folder), exclusive_ownership(folder, "other", "another output", ""):
        assert len(owner_files(folder)) == 2


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"started": "1"}], ids=["ended", "pid used again"])
def test_an_owner_of_this_machine_that_has_ended_is_replaced_at_once(folder, changes, monkeypatch):
    monkeypatch.setattr(ownership, "STALE_S", 60)
    write_stale_owner(folder, **changes)
    with own(folder):
        assert len(owner_files(folder)) == 1


def test_an_owner_of_another_machine_is_replaced_if_it_sends_no_heartbeat(folder):
    write_stale_owner(folder, machine="another")
    started = time.monotonic()
    with own(folder):
        assert time.monotonic() - started >= 0.6


def test_an_owner_of_another_machine_that_sends_heartbeats_stays(folder):
    with own(folder):
        change_owner(folder, machine="another", beat=10)
        with pytest.raises(JobFailedError, match="in use"), own(folder):
            pass


def test_an_owner_that_was_replaced_may_not_publish(folder):
    """Its process was stopped for a while, such as by a debugger or a frozen machine."""
    first = Ownership(folder, "output", "the output", "")
    first.acquire()
    change_owner(folder, machine="another")  # without heartbeats
    with own(folder) as second:
        with pytest.raises(JobFailedError, match="the output: another process has taken over"):
            first.require()
        first.heartbeat()  # must not make it an owner again
        assert first.is_lost() and not second.is_lost()
        second.require()


def test_a_heartbeat_that_crosses_a_takeover_does_not_bring_the_owner_back(folder):
    first = Ownership(folder, "output", "the output", "")
    first.acquire()
    (name,) = owner_files(folder)
    content = storage.read_bytes(f"{folder}/{name}")
    change_owner(folder, machine="another")
    with own(folder) as second:
        storage.write_bytes(f"{folder}/{name}", content)
        assert first.is_lost() and not second.is_lost()


def test_only_one_of_many_threads_that_start_at_once_becomes_owner(folder):
    barrier, results = threading.Barrier(8), []

    def attempt():
        barrier.wait()
        try:
            with own(folder):
                results.append("owner")
                time.sleep(1)
        except JobFailedError:
            results.append("refused")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["owner"] + ["refused"] * 7


def test_only_one_of_many_processes_is_owner_at_a_time(tmp_path):
    """Each increments a number in a file; if two were owners at once, an increment would be lost."""
    (tmp_path / "number").write_text("0")
    script = f"""
from pathlib import Path
from deepfm.errors import JobFailedError
from deepfm.ownership import exclusive_ownership
num, number = 0, Path({str(tmp_path)!r}) / "number"
while num < 20:
    try:
        with exclusive_ownership("file://{tmp_path}", "number", "number", ""):
            number.write_text(str(int(number.read_text()) + 1))
            num += 1
    except JobFailedError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 3
    assert (tmp_path / "number").read_text() == "60"


def test_an_owner_that_is_killed_is_replaced(tmp_path):
    script = f"""
import os
from deepfm.ownership import exclusive_ownership
with exclusive_ownership("file://{tmp_path}", "output", "the output", ""):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert len(owner_files(f"file://{tmp_path}")) == 1
    with own(f"file://{tmp_path}"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_has_ended_but_was_not_waited_for_is_replaced(folder):
    """In a container, often nobody waits for the processes of a killed parent."""
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    write_stale_owner(folder, pid=ended.pid)
    with own(folder):
        pass
    ended.wait()


def test_the_start_of_a_process_does_not_depend_on_the_clock():
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert ownership._start_of(os.getpid()) == ticks


def test_a_job_whose_output_was_taken_over_stops(folder):
    """It was frozen; otherwise its workers would go on to write files of the other process."""
    with pytest.raises(JobFailedError, match="another process has taken over"), own(folder):
        (name,) = owner_files(folder)
        document = storage.read_json(f"{folder}/{name}")
        taken = document | {"token": "another", "replaced": [document["token"]]}
        storage.write_json(f"{folder}/_output.owner.another.json", taken)
        time.sleep(30)


def test_heartbeats_go_on_after_an_error_of_any_kind(folder, monkeypatch):
    """The libraries of object stores raise exceptions of their own."""
    with own(folder):
        (name,) = owner_files(folder)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_json", Mock(side_effect=RuntimeError("a library's error")))
            time.sleep(0.3)
        before = storage.read_json(f"{folder}/{name}")["beat"]
        time.sleep(0.5)
        assert storage.read_json(f"{folder}/{name}")["beat"] > before


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="file/folder cannot be written"),
        own(f"file://{tmp_path}/file/folder"),
    ):
        pass


def test_the_file_of_an_owner_is_json_without_secrets(tmp_path):
    with own(f"file://{tmp_path}"):
        (path,) = tmp_path.iterdir()
        assert set(json.loads(path.read_text())) == {
            "token", "host", "machine", "pid", "started", "since", "beat", "is_owner", "replaced",
        }  # fmt: skip
