"""tune.py with real Horovod workers: pruning on both ranks, and killed jobs that are resumed."""

import json
import os
import signal
import sys
import time
from contextlib import suppress

import psutil
import pytest
import yaml
from job_processes import ROOT, start_job

from deepfm.tracking.store import MlflowStore

pytestmark = pytest.mark.slow

MODEL = {
    "model": "deepfm",
    "embedding_dim": 2,
    "deep": {"hidden_units": [4]},
    "training": {"batch_size": 4, "max_epochs": 12, "patience": 12, "learning_rate": 0.01},
}
#: In the order of the grid's seed, the low learning rate is second and is pruned.
SPACE = {
    "search": "grid",
    "seed": 1,
    "pruner": "median",
    "startup_trials": 1,
    "parameters": {"training.learning_rate": {"values": [0.1, 1e-9]}},
}


@pytest.fixture
def start(tmp_path, small_dataset):
    """start() starts or resumes the job in a separate process group."""
    profile = yaml.safe_load((ROOT / "conf/profile/local.yaml").read_text())
    profile["work_dir"] = str(tmp_path / "runs")
    profile["mlflow"] = {
        "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db",
        "artifact_location": str(tmp_path / "artifacts"),
    }
    command = [sys.executable, ROOT / "jobs/tune.py", "--dataset", small_dataset, "--num-workers", "2"]
    for flag, content in (("profile", profile), ("model", MODEL), ("space", SPACE)):
        (tmp_path / f"{flag}.yaml").write_text(yaml.safe_dump(content))
        command += [f"--{flag}", tmp_path / f"{flag}.yaml"]

    def run():
        return start_job(*command)

    return run


def wait_for_an_epoch(process, runs, seen):
    """Wait until a trial that is not in `seen` has finished an epoch; return the name of its folder."""
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline and process.poll() is None:
        for path in runs.glob("*/progress.json"):
            with suppress(OSError):
                if path.parent.name not in seen and json.loads(path.read_text())["epochs"]:
                    return path.parent.name
        time.sleep(0.02)
    raise AssertionError(f"no trial had an epoch: {process.communicate()}")


def find_worker(process):
    """Return a Python process that has a rank."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "HOROVOD_RANK" in child.environ() and any("libtorch" in m.path for m in child.memory_maps()):
                return child
    raise AssertionError("no worker")


def test_a_killed_study_resumes_and_both_ranks_stop_a_pruned_trial(start, tmp_path):
    runs = tmp_path / "runs"
    process = start()
    killed = wait_for_an_epoch(process, runs, ())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    process = start()
    lost = wait_for_an_epoch(process, runs, (killed,))
    find_worker(process).kill()
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["trials"] == {"complete": 1, "pruned": 1, "diverged": 0, "failed": 2, "remaining": 0}
    assert summary["best"] == {"training.learning_rate": 0.1}
    assert [path.name for path in runs.iterdir()] == ["studies"]

    client = MlflowStore(f"sqlite:///{tmp_path}/mlflow.db").client
    parent = client.get_run(summary["run_id"])
    parent_filter = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    trials = client.search_runs(
        [parent.info.experiment_id], parent_filter, order_by=["attributes.start_time ASC"]
    )
    assert [trial.info.run_id for trial in trials[:2]] == [killed, lost]
    assert [trial.info.status for trial in trials] == ["KILLED", "FAILED", "FINISHED", "FINISHED"]
    _, _, complete, pruned = trials
    assert complete.data.metrics["best_epochs"] == 12
    assert pruned.data.tags["trial.state"] == "pruned"
    assert len(client.get_metric_history(pruned.info.run_id, "valid_logloss")) == 1
    assert "best_test_logloss" not in pruned.data.metrics
