"""Fixtures for tests on a cluster: packed environment, log, dataset, cluster."""

import subprocess
import sys
from pathlib import Path

import pytest

# The other modules in this folder start clusters and hosts; they contain no tests.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from small_jobs import DAYS
from standalone import ARCHIVE, LOOPBACK, ROOT, Cluster


@pytest.fixture(scope="session", autouse=True)
def archive():
    """Skip without an up-to-date archive of `make pack`: an older one would test older code."""
    newest = max(path.stat().st_mtime for path in (ROOT / "deepfm").rglob("*.py"))
    if not ARCHIVE.exists() or ARCHIVE.stat().st_mtime < newest:
        pytest.skip(f"{ARCHIVE} is missing or older than deepfm/: make pack")


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """Five days of 2,000 impressions."""
    folder = tmp_path_factory.mktemp("log") / "log"
    size = ["--days", "5", "--rows-per-day", "2000", "--seed", "1", "--output", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "deepfm.synthetic", *size], check=True, cwd=ROOT, capture_output=True
    )
    return folder


@pytest.fixture(scope="session")
def local_dataset(log, tmp_path_factory):
    """Dataset built from the log by Spark in local mode."""
    folder = tmp_path_factory.mktemp("local") / "dataset"
    command = [sys.executable, "jobs/build_features.py", "--data=conf/data/criteo.yaml", *DAYS]
    files = [f"--input={log}", f"--output={folder}"]
    subprocess.run([*command, *files], check=True, cwd=ROOT, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def loopback_cluster(tmp_path_factory):
    """One master and two workers on 127.0.0.1."""
    with Cluster(tmp_path_factory.mktemp("cluster"), LOOPBACK, [LOOPBACK, LOOPBACK]) as cluster:
        yield cluster
