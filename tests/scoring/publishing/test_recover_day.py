"""A job that was killed while it replaced a published day loses neither version of it."""

import uuid

import pytest

from deepfm import storage
from deepfm.errors import JobFailedError
from deepfm.ownership import exclusive_ownership
from deepfm.scoring.days import PROVENANCE
from deepfm.scoring.publishing.day_versions import recover_day

DAY = "2026-01-08"
#: Files of a version of the day; without its provenance, a version is not complete.
WHOLE, PART = ("part-0", "part-1", PROVENANCE), ("part-0",)


@pytest.fixture(params=["file", "memory"])
def output(request, tmp_path):
    """An output folder, locally and on a filesystem that copies files instead of renaming a folder."""
    return f"file://{tmp_path}" if request.param == "file" else f"memory://{uuid.uuid4().hex}"


def write(url, version, names):
    for name in names:
        storage.make_folder(url)
        storage.write_json(f"{url}/{name}", {"version": version})


def killed(output, *, day=(), replaced=(), scored=()):
    """What a job leaves that is killed while it replaces version old by version new."""
    attempt = f"{output}/_attempts/ds={DAY}.{uuid.uuid4().hex}"
    write(f"{output}/ds={DAY}", "part", day)
    write(f"{attempt}/replaced", "old", replaced)
    write(f"{attempt}/scored", "new", scored)


@pytest.mark.parametrize(
    ("left", "version"),
    [
        ({"replaced": WHOLE, "scored": WHOLE}, "old"),  # the old day is moved away
        ({"replaced": WHOLE, "scored": ("part-1",), "day": PART}, "old"),  # the new one is copied
        ({"replaced": PART, "scored": WHOLE, "day": ("part-1",)}, "new"),  # the old one is moved away
        ({"scored": WHOLE, "day": ("part-0", "part-1")}, "new"),  # its mark is removed
    ],
)
def test_a_complete_version_is_restored(output, left, version):
    killed(output, **left)
    recover_day(output, DAY)
    assert storage.read_json(f"{output}/ds={DAY}/{PROVENANCE}")["version"] == version
    assert storage.read_json(f"{output}/ds={DAY}/part-1")["version"] == version
    assert [name for name in storage.all_names(f"{output}/_attempts") if DAY in name] == []


def test_an_attempt_that_replaced_nothing_is_removed(output):
    killed(output, scored=WHOLE)
    recover_day(output, DAY)
    assert not storage.exists(f"{output}/ds={DAY}")


def test_a_job_that_still_runs_is_left_alone(output):
    killed(output, replaced=WHOLE, scored=WHOLE)
    with exclusive_ownership(output, f"ds={DAY}", DAY, ""), pytest.raises(JobFailedError, match="in use"):
        recover_day(output, DAY)
