"""If the driver of a scoring job is killed, readers of an object store see a complete day or none."""

import json
import os
import signal
import time

import pyarrow.parquet as pq
import pytest
from job_processes import start_job

from deepfm import storage
from deepfm.scoring.days import PROVENANCE, published_day, published_url

DAY, NUM_ROWS = "2026-01-08", 300
pytestmark = pytest.mark.long


@pytest.fixture
def start_scoring(write_log, save_model, register, profile_path, bucket):
    """Function: start score.py --overwrite into the bucket with version 1 or 2, as a process group."""
    log = write_log({DAY: ["1\t0\ta", "0\t1\tb", "1\t\t"] * (NUM_ROWS // 3)})
    for name in ("one", "two"):
        register(save_model(name), "killed-stored")

    def start(version):
        java = "spark.driver.extraJavaOptions=-XX:+UseParallelGC -XX:TieredStopAtLevel=1"
        flags = ["--date", DAY, "--model-uri", f"models:/killed-stored/{version}", "--input", log]
        paths = ["--output", bucket, "--overwrite", "--profile", profile_path]
        command = ["spark-submit", "--master", "local[2]", "--conf", java, "jobs/score.py", *flags, *paths]
        return start_job(*command)

    return start


def visible_version(bucket):
    """Return the model version of all rows that a reader sees; None if there is no day."""
    published = published_day(bucket, DAY)
    if published is None:
        return None
    rows = []
    for child in storage.children(published_url(bucket, DAY)):
        with storage.open_file(f"{published_url(bucket, DAY)}/{child['name']}") as file:
            rows += pq.read_table(file, columns=["model_version"]).column(0).to_pylist()
    assert rows == [published.provenance.version] * NUM_ROWS
    return rows[0]


def kill_once(process, is_moment):
    """Kill a job as soon as `is_moment` is true; it must not end before."""
    while not is_moment():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def attempt_files(bucket, earlier=frozenset()):
    """Names of the files of scored rows of attempts that are not among the `earlier` ones."""
    folders = set(storage.all_names(f"{bucket}/_attempts")) - earlier
    return [name for folder in folders for name in storage.all_names(f"{bucket}/_attempts/{folder}/scored")]


def test_a_killed_driver_leaves_a_complete_day_or_none_and_a_rerun_completes_it(start_scoring, bucket):
    kill_once(start_scoring(1), lambda: attempt_files(bucket))
    assert visible_version(bucket) is None
    earlier = set(storage.all_names(f"{bucket}/_attempts"))
    kill_once(start_scoring(1), lambda: PROVENANCE in attempt_files(bucket, earlier))
    assert visible_version(bucket) in (None, "1")
    kill_once(start_scoring(1), lambda: storage.exists(f"{bucket}/ds={DAY}/_version.json"))
    assert visible_version(bucket) == "1"
    earlier = set(storage.all_names(f"{bucket}/_attempts"))
    kill_once(start_scoring(2), lambda: PROVENANCE in attempt_files(bucket, earlier))
    assert visible_version(bucket) in ("1", "2")
    stdout, stderr = start_scoring(2).communicate(timeout=280)
    assert json.loads(stdout.splitlines()[-1])["rows_scored"] == NUM_ROWS, stderr
    assert visible_version(bucket) == "2"
    # The version that was replaced stays until the next run, and no other attempt.
    assert len(storage.all_names(f"{bucket}/_attempts")) == 2
