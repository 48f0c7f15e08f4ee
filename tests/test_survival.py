"""Training jobs that lose a worker or their driver: error message, clean-up and resume."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from job_processes import ROOT, start_job

from deepfm.tracking.store import MlflowStore

DAYS = ("--train-days=2026-01-01:2026-01-02", "--valid-days=2026-01-03", "--test-days=2026-01-04")
MODEL = {
    "model": "deepfm",
    "embedding_dim": 4,
    "deep": {"hidden_units": [16], "dropout": 0.5},
    "training": {"batch_size": 64, "max_epochs": 2, "learning_rate": 0.001, "keep": "last"},
}
pytestmark = pytest.mark.slow


class Trainings:
    """Runs train.py with two workers as processes, in one folder."""

    def __init__(self, folder):
        self.folder = folder
        profile = yaml.safe_load((ROOT / "conf/profile/local.yaml").read_text())
        profile["work_dir"] = str(folder / "runs")
        profile["workers"]["checkpoint_every_n_steps"] = 20
        self.uri = f"sqlite:///{folder}/mlflow.db"
        profile["mlflow"] = {"tracking_uri": self.uri, "artifact_location": str(folder / "artifacts")}
        (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
        (folder / "model.yaml").write_text(yaml.safe_dump(MODEL))

    def start(self, *flags):
        files = {"dataset": "dataset", "model": "model.yaml", "profile": "profile.yaml"}
        named = [word for flag, name in files.items() for word in (f"--{flag}", self.folder / name)]
        command = [sys.executable, ROOT / "jobs/train.py", *named, "--name", "survivor", *flags]
        return start_job(*command)

    def run(self, *flags):
        """Run a whole training; return its summary."""
        process = self.start(*flags)
        stdout, stderr = process.communicate(timeout=280)
        assert process.returncode == 0, stderr
        return json.loads(stdout.splitlines()[-1])

    def weights(self, summary):
        """Return the bytes of the registered weights."""
        store = MlflowStore(self.uri, None)
        with tempfile.TemporaryDirectory() as folder:
            store.download(store.resolve(f"models:/survivor/{summary['version']}"), folder)
            (file,) = Path(folder).rglob("weights.safetensors")
            return file.read_bytes()

    def wait_for_the_second_epoch(self, process):
        """Wait for a checkpoint in the middle of the second epoch; return the run's id."""
        seen = {path.name for path in (self.folder / "runs").glob("*")}
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            for path in (self.folder / "runs").glob("*/weights-00001-*"):
                if path.parent.name not in seen and "-000000000." not in path.name:
                    return path.parent.name
            time.sleep(0.02)
        raise AssertionError(f"no checkpoint in the second epoch: {process.communicate()}")


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survival")
    size = ["--days", "4", "--rows-per-day", "20000", "--seed", "1", "--output", str(folder / "log")]
    subprocess.run(
        [sys.executable, "-m", "deepfm.synthetic", *size], check=True, cwd=ROOT, capture_output=True
    )
    command = [sys.executable, "jobs/build_features.py", "--data", "conf/data/criteo.yaml", *DAYS]
    files = ["--input", str(folder / "log"), "--output", str(folder / "dataset")]
    subprocess.run([*command, *files], check=True, cwd=ROOT, capture_output=True)
    return Trainings(folder)


@pytest.fixture(scope="module")
def undisturbed(trainings):
    """Summary of an undisturbed training."""
    return trainings.run()


def workers_of(process):
    """Return the processes that train: they have loaded PyTorch and have a rank."""
    workers = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "HOROVOD_RANK" in child.environ() and any("libtorch" in m.path for m in child.memory_maps()):
                workers.append(child)
    return workers


def wait_for_end(processes, seconds=60):
    """Return the processes that are still alive after `seconds`."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return alive


def test_a_killed_worker_ends_the_job_within_a_minute_and_resume_finishes_it(trainings, undisturbed):
    process = trainings.start()
    run_id = trainings.wait_for_the_second_epoch(process)
    family, workers = psutil.Process(process.pid).children(recursive=True), workers_of(process)
    assert len(workers) >= 2
    killed_at = time.monotonic()
    workers[-1].kill()
    _, stderr = process.communicate(timeout=120)
    assert time.monotonic() - killed_at < 60
    assert process.returncode == 1
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert error.endswith(f"; resume with the same command and --resume {run_id}")
    assert "Traceback" not in stderr
    assert not wait_for_end(family)

    summary = trainings.run("--resume", run_id)
    assert (summary["run_id"], summary["epochs"]) == (run_id, 2)
    assert trainings.weights(summary) == trainings.weights(undisturbed)
    assert {key: summary[key] for key in ("test_auc", "test_logloss", "train_logloss")} == {
        key: undisturbed[key] for key in ("test_auc", "test_logloss", "train_logloss")
    }
    assert not (trainings.folder / "runs" / run_id).exists()


def kill_driver(trainings) -> str:
    """Kill the driver of a training in the second epoch; return the run's id once the workers ended."""
    process = trainings.start()
    run_id = trainings.wait_for_the_second_epoch(process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not wait_for_end(family)
    return run_id


def test_the_workers_of_a_killed_driver_end_and_resume_finishes(trainings, undisturbed):
    run_id = kill_driver(trainings)
    summary = trainings.run("--resume", run_id)
    assert trainings.weights(summary) == trainings.weights(undisturbed)


def test_another_number_of_workers_resumes_a_killed_training(trainings, undisturbed):
    run_id = kill_driver(trainings)
    summary = trainings.run("--resume", run_id, "--num-workers=1")
    assert (summary["run_id"], summary["epochs"], summary["num_workers"]) == (run_id, 2, 1)
    assert summary["resumed_with"] == {"num_workers": 1, "num_workers_before": [2], "same_weights": False}
    # One worker takes other steps, but learns from the same rows.
    for key in ("train_logloss", "test_logloss"):
        assert summary[key] == pytest.approx(undisturbed[key], rel=0.01)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_training_that_is_stopped_by_a_signal_ends_at_once_and_resume_finishes(
    trainings, undisturbed, number, status
):
    """A lost worker would be retried; a stopped training must not be."""
    process = trainings.start("--retries", "1")
    run_id = trainings.wait_for_the_second_epoch(process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    assert f"the training was stopped; resume with the same command and --resume {run_id}" in stderr
    assert "Traceback" not in stderr, stderr
    assert not wait_for_end(family)
    assert MlflowStore(trainings.uri, None).find_run(run_id).info.status == "KILLED"
    summary = trainings.run("--resume", run_id)
    assert trainings.weights(summary) == trainings.weights(undisturbed)


def test_a_stalled_worker_is_reported_by_rank_and_then_ends_the_job(trainings, undisturbed):
    profile = yaml.safe_load((trainings.folder / "profile.yaml").read_text())
    profile["workers"] |= {"stall_warning_s": 6.0, "stall_limit_s": 20.0}
    (trainings.folder / "short_limits.yaml").write_text(yaml.safe_dump(profile))
    process = trainings.start("--profile", str(trainings.folder / "short_limits.yaml"))
    run_id = trainings.wait_for_the_second_epoch(process)
    family = psutil.Process(process.pid).children(recursive=True)
    stalled = workers_of(process)[-1]
    rank, stalled_at = stalled.environ()["HOROVOD_RANK"], time.monotonic()
    stalled.suspend()
    _, stderr = process.communicate(timeout=120)
    assert time.monotonic() - stalled_at < 60
    assert process.returncode == 1
    assert re.search(
        rf"WARNING rank {rank} on \S+ has sent no heartbeat for \d+ s; the other ranks wait", stderr
    )
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert re.match(
        rf"error: rank {rank} on \S+ has sent no heartbeat for \d+ s; the workers were stopped", error
    )
    assert error.endswith(f"; resume with the same command and --resume {run_id}")
    assert not wait_for_end(family)
    assert trainings.weights(trainings.run("--resume", run_id)) == trainings.weights(undisturbed)


def test_retries_resume_automatically(trainings, undisturbed):
    process = trainings.start("--retries", "1")
    trainings.wait_for_the_second_epoch(process)
    workers_of(process)[-1].kill()
    stdout, stderr = process.communicate(timeout=280)
    assert process.returncode == 0, stderr
    assert re.search("retrying from the last checkpoint, retries_left=1", stderr)
    assert trainings.weights(json.loads(stdout.splitlines()[-1])) == trainings.weights(undisturbed)


def test_only_an_interrupted_run_can_be_resumed(trainings, undisturbed):
    for run_id, actual in ((undisturbed["run_id"], "a finished run"), ("0123abcd", "no run with this id")):
        process = trainings.start("--resume", run_id)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 2
        assert f"error: --resume {run_id}: expected an interrupted run" in stderr
        assert actual in stderr
