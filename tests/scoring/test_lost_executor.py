"""A day is published completely and without duplicates when the cluster loses an executor."""

import os
import signal
import sys
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest
import yaml
from job_processes import start_job

DAY, NUM_FILES, ROWS_PER_FILE = "2026-01-08", 30, 40
pytestmark = pytest.mark.cluster


@pytest.fixture
def log(tmp_path):
    """Many small files, each a partition: most are still open when the first tasks end."""
    folder = tmp_path / "log" / f"ds={DAY}"
    folder.mkdir(parents=True)
    for file in range(NUM_FILES):
        ids = range(file * ROWS_PER_FILE, (file + 1) * ROWS_PER_FILE)
        (folder / f"part-{file:05d}.tsv").write_text("".join(f"0\t{n % 3}\t{'abx'[n % 3]}{n}\n" for n in ids))
    return folder.parent


@pytest.fixture
def cluster_profile(profile_path, tmp_path):
    """Two executors with one core each, in separate processes."""
    profile = yaml.safe_load(profile_path.read_text())
    profile["spark"] |= {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.driver.memory": "1g",
        "spark.executor.memory": "1024m",
        "spark.sql.files.maxPartitionBytes": 1024,
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(profile))
    return tmp_path / "cluster.yaml"


def executors_of(driver: int) -> list[psutil.Process]:
    executors = []
    for child in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):
            # A thread that starts a Python worker is briefly a separate process with another name.
            if child.name() == "java" and "CoarseGrainedExecutorBackend" in " ".join(child.cmdline()):
                executors.append(child)
    return executors


def kill_one(executor: psutil.Process) -> None:
    """Kill an executor and its Python workers, as if the host had failed."""
    family = [executor, *executor.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)


def published(output) -> pd.DataFrame:
    return pd.read_parquet(output / f"ds={DAY}").sort_values("C", ignore_index=True)


def test_a_day_that_loses_an_executor_has_the_same_rows(
    run_job, save_model, register, log, cluster_profile, tmp_path
):
    version = register(save_model(c={"?": 0.5, None: -1.0}), "lost-executor")
    flags = ["--date", DAY, "--model-uri", f"models:/lost-executor/{version}", "--input", log]
    flags += ["--keep", "I,C", "--key", "C"]
    assert run_job("score", *flags, "--output", tmp_path / "whole").status == 0

    output = tmp_path / "scores"
    command = [sys.executable, "jobs/score.py", *flags, "--output", output, "--profile", cluster_profile]
    process = start_job(*command)
    deadline = time.monotonic() + 480
    while not list(output.glob("_attempts/*/*/_temporary/*/*/*")):
        if process.poll() is not None or time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(process.communicate()[1])
        time.sleep(0.05)
    # Some tasks have written their rows, others have not started.
    before = executors_of(process.pid)
    assert len(before) == 2
    kill_one(before[0])
    _, stderr = process.communicate(timeout=580)
    assert process.returncode == 0, stderr
    assert "Lost executor" in stderr
    pd.testing.assert_frame_equal(published(output), published(tmp_path / "whole"), check_exact=True)
    assert len(published(output)) == NUM_FILES * ROWS_PER_FILE
