"""Builds that are killed, lose a worker, fill their disk, or run on a cluster."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pyspark
import pytest
from job_processes import ROOT, start_job

from deepfm.dataset.manifest import read_manifest
from deepfm.errors import UserError

DAYS = ("--train-days=2026-01-01:2026-01-02", "--valid-days=2026-01-03", "--test-days=2026-01-04")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "log"
    size = ["--days", "4", "--rows-per-day", "20000", "--seed", "1", "--output", str(path)]
    subprocess.run(
        [sys.executable, "-m", "deepfm.synthetic", *size], check=True, cwd=ROOT, capture_output=True
    )
    return path


def build(log, output, *submit, wait=True):
    """Run build_features by spark-submit in a separate process group."""
    submit = submit or ("--master", "local[2]")
    data = ["--data", "conf/data/criteo.yaml", "--input", log, "--output", output]
    command = ["spark-submit", *submit, "jobs/build_features.py", *data, *DAYS]
    process = start_job(*command)
    if not wait:
        return process
    stdout, stderr = process.communicate(timeout=280)
    return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def whole(log):
    """Summary of an undisturbed build."""
    status, stdout, stderr = build(log, log.parent / "whole")
    assert status == 0, stderr
    return json.loads(stdout.splitlines()[-1])


def test_a_killed_driver_leaves_no_dataset_or_a_complete_one_and_a_rerun_succeeds(log, whole):
    output, num_absent = log.parent / "killed", 0
    for moment in range(10):
        process = build(log, output, wait=False)
        time.sleep(0.3 + (whole["seconds"] + 4) * moment / 10)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        try:
            assert read_manifest(f"file://{output}").digest == whole["digest"]
            break
        except UserError as absent:
            assert "the build did not finish" in str(absent)  # noqa: PT017
            num_absent += 1
    assert num_absent >= 3
    if num_absent == moment + 1:
        status, _, stderr = build(log, output)
        assert status == 0, stderr
    assert read_manifest(f"file://{output}").digest == whole["digest"]
    assert not list(output.glob("_scratch*")) + list(output.glob("_building"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_build_that_is_stopped_by_a_signal_can_be_repeated(log, whole, number, status):
    """It also ends Java; the first signals arrive while Java starts."""
    output = log.parent / "stopped"
    flags = ["--data", "conf/data/criteo.yaml", "--input", log, "--output", output, *DAYS]
    for moment in range(5):
        process = start_job(sys.executable, "jobs/build_features.py", *flags)
        deadline = time.monotonic() + 60
        while not (family := psutil.Process(process.pid).children(recursive=True)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(whole["seconds"] * moment / 7)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in stderr) == (status, False), stderr
        assert not psutil.wait_procs(family, timeout=30)[1]
        # A build that stopped between two steps is marked as unfinished.
        assert not output.exists() or (output / "_building").exists()
    assert build(log, output)[0] == 0
    assert read_manifest(f"file://{output}").digest == whole["digest"]
    shutil.rmtree(output)


def kill_a_python_worker(driver: int) -> bool:
    """Kill one of the driver's Python workers; return whether there was one."""
    for worker in psutil.Process(driver).children(recursive=True):
        # A worker may end by itself in the meantime.
        with suppress(psutil.NoSuchProcess):
            if "pyspark.daemon" in " ".join(worker.cmdline()) and not worker.children():
                worker.kill()
                return True
    return False


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(log, whole):
    output = log.parent / "worker"
    process = build(log, output, "--master", "local[2,4]", wait=False)
    killed = 0
    deadline = time.monotonic() + 120
    while killed < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        if not any((output / "_scratch").glob("*")):
            continue  # wait until the first rows are parsed
        killed += kill_a_python_worker(process.pid)
        time.sleep(2)
    stdout, stderr = process.communicate(timeout=280)
    assert killed
    assert process.returncode == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["digest"] == whole["digest"]


@pytest.fixture
def small_disk(tmp_path):
    """Folder on a disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_reported_in_one_line_and_nothing_is_published(log, small_disk):
    status, stdout, stderr = build(log, small_disk / "dataset")
    assert status == 2
    # spark-submit redirects the stderr of a job to stdout.
    (line,) = [line for line in (stdout + stderr).splitlines() if line.startswith("error: ")]
    assert "nothing was published: no space is left on the device" in line
    assert str(small_disk) in line
    assert not (small_disk / "dataset").exists()


@contextmanager
def cluster():
    """Start a Spark standalone cluster on loopback, a master and two workers; yields its address."""
    spark_home = Path(pyspark.__file__).parent
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    address, processes = f"spark://127.0.0.1:{port}", []
    environment = {**os.environ, "SPARK_HOME": str(spark_home), "PYSPARK_PYTHON": sys.executable}

    def start(*arguments):
        command = [str(spark_home / "bin" / "spark-class"), *arguments]
        log = subprocess.DEVNULL
        processes.append(
            subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        )

    try:
        deploy = "org.apache.spark.deploy"
        start(f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
        for _ in range(2):
            size = ("--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--webui-port", "0")
            start(f"{deploy}.worker.Worker", *size, address)
        yield address
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.cluster
def test_a_cluster_builds_the_same_dataset_as_one_machine(log, whole):
    output = log.parent / "cluster"
    with cluster() as address:
        memory = ("--conf", "spark.executor.memory=900m")
        status, stdout, stderr = build(log, output, "--master", address, *memory)
    assert status == 0, stderr
    summary = json.loads(stdout.splitlines()[-1])
    assert (summary["vocabulary"], summary["digest"]) == (whole["vocabulary"], whole["digest"])
    for name in ("vocabulary.parquet", "vocabulary.json"):
        assert (output / name).read_bytes() == (log.parent / "whole" / name).read_bytes()
