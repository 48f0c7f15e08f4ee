"""Spark standalone cluster on this machine with workers pinned to one core each."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

_START_TIMEOUT_S = 60


@contextmanager
def one_core_workers(num_workers: int) -> Iterator[str]:
    """Start a master and workers, each with all its processes on one core; yield the URL spark://….

    Spark's local-cluster only limits the number of tasks: Java and Python of a worker could use other cores.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"spark://127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        processes = [_daemon(folder, "master.Master", [], "--port", url.rpartition(":")[2])]
        try:
            for core in sorted(os.sched_getaffinity(0))[:num_workers]:
                size = ("--cores", "1", "--memory", "3g", "--work-dir", f"{folder}/{core}")
                taskset = ["taskset", "--cpu-list", str(core)]
                processes.append(_daemon(folder, "worker.Worker", taskset, *size, url))
            _wait_for_workers(Path(folder), len(processes) - 1)
            yield url
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


def _daemon(folder: str, name: str, prefix: list[str], *arguments: str) -> subprocess.Popen:
    home = Path(pyspark.__file__).parent
    command = [*prefix, str(home / "bin/spark-class"), f"org.apache.spark.deploy.{name}"]
    settings = {"SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": folder}
    with (Path(folder) / f"{name}-{len(list(Path(folder).glob('*.log')))}.log").open("w") as log:
        return subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--webui-port", "0", *arguments],
            env=os.environ | settings, stdout=log, stderr=log,
        )  # fmt: skip


def _wait_for_workers(folder: Path, num_workers: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while sum("Successfully registered with master" in log.read_text() for log in folder.glob("*.log")) < (
        num_workers
    ):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the workers of the cluster did not start within {_START_TIMEOUT_S} s")
        time.sleep(0.2)
