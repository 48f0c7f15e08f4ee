"""If the driver of a scoring job is killed, readers see the old day, the new day or none, never a mixture."""

import json
import os
import signal
import time

import pyarrow.parquet as pq
import pytest
from job_processes import start_job

DAY, NUM_ROWS = "2026-01-08", 3000
#: Each takes most of a minute on two busy cores; MOMENTS=20 make test-slow tests more.
NUM_MOMENTS = int(os.environ.get("MOMENTS", "3"))
pytestmark = pytest.mark.slow


@pytest.fixture
def start_scoring(write_log, save_model, register, profile_path, tmp_path):
    """Start spark-submit score.py --overwrite with version 1 or 2, in a separate process group."""
    log = write_log({DAY: ["1\t0\ta", "0\t1\tb", "1\t\t"] * (NUM_ROWS // 3)})
    for name in ("one", "two"):
        register(save_model(name), "killed")

    def start(version):
        java = "spark.driver.extraJavaOptions=-XX:+UseParallelGC -XX:TieredStopAtLevel=1"
        flags = ["--date", DAY, "--model-uri", f"models:/killed/{version}", "--input", log, "--overwrite"]
        paths = ["--output", tmp_path / "scores", "--profile", profile_path]
        command = ["spark-submit", "--master", "local[2]", "--conf", java, "jobs/score.py", *flags, *paths]
        return start_job(*command)

    return start


def visible_version(output):
    """Return the model version of the rows that a reader sees; None if there is no day."""
    folder = output / f"ds={DAY}"
    days = [path for path in output.glob("*") if path.name[0] not in "_."] if output.exists() else []
    if not folder.exists():
        assert not days
        return None
    assert days == [folder]
    visible = [path for path in folder.iterdir() if path.name[0] not in "_."]
    versions = [pq.ParquetFile(path).read(["model_version"]).column(0).to_pylist() for path in visible]
    rows = [version for file_versions in versions for version in file_versions]
    assert len(rows) == NUM_ROWS and len(set(rows)) == 1
    assert json.loads((folder / "_provenance.json").read_text())["version"] == rows[0]
    return rows[0]


def test_a_killed_driver_leaves_the_old_or_the_new_day_and_a_rerun_completes_it(start_scoring, tmp_path):
    output = tmp_path / "scores"
    started = time.monotonic()
    _, stderr = start_scoring(1).communicate(timeout=280)
    seconds = time.monotonic() - started
    assert visible_version(output) == "1", stderr
    versions = []
    for moment in range(NUM_MOMENTS):
        before = visible_version(output)
        version = "2" if before == "1" else "1"
        process = start_scoring(version)
        # From the middle of the job on: before, nothing is written.
        time.sleep(seconds * (0.5 + 0.5 * moment / NUM_MOMENTS))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        versions.append(visible_version(output))
        assert versions[-1] in (before, version, None)
    assert len(versions) == NUM_MOMENTS
    stdout, stderr = start_scoring(2).communicate(timeout=280)
    assert json.loads(stdout.splitlines()[-1])["rows_scored"] == NUM_ROWS, stderr
    assert visible_version(output) == "2"
    assert not list((output / "_attempts").glob(f"ds={DAY}.*"))
