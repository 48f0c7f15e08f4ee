"""MLflow is unreachable, or its file is locked, before, during and at the end of a training."""

import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
import yaml
from servers import free_port, mlflow_server

from deepfm.experiments import run_folder
from deepfm.launch.progress import ProgressWriter
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore

pytestmark = pytest.mark.slow
MODEL = """
model: deepfm
embedding_dim: 2
deep: {hidden_units: [4]}
training: {batch_size: 8, max_epochs: 4, patience: 4, learning_rate: 0.01}
"""


@pytest.fixture
def train(run_job, small_dataset, profile_path, tmp_path):
    """Run train.py for a model name and tracking URI, which is retried for `retry_s`."""
    (tmp_path / "model.yaml").write_text(MODEL)
    profile = yaml.safe_load(profile_path.read_text())

    def run(name, uri, *flags, retry_s=1):
        profile["mlflow"] |= {"tracking_uri": uri, "retry_s": retry_s}
        profile["mlflow"]["artifact_location"] = str(tmp_path / "artifacts")
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
        files = ["--dataset", small_dataset, "--model", tmp_path / "model.yaml"]
        run_flags = ["--profile", tmp_path / "profile.yaml", "--num-workers", 0]
        return run_job("train", *files, *run_flags, "--name", name, *flags)

    return run


@pytest.fixture
def call_when_trained(monkeypatch):
    """Call a function between the end of a training and its registration."""
    save_result = run_folder.save_result

    def register_call(function):
        def save_and_call(*arguments):
            save_result(*arguments)
            function()

        monkeypatch.setattr(run_folder, "save_result", save_and_call)

    return register_call


def kept_folder(line: str) -> str:
    """Return the folder of the trained model that an error line names."""
    assert "the model is trained, but" in line
    return re.search(r"--register-only (\S+)", line)[1]


def steps_of(client, run_id, curve):
    return [point.step for point in client.get_metric_history(run_id, curve)]


# --- a server


def test_a_server_that_starts_late_is_waited_for(tmp_path, train):
    port, done = free_port(), []
    waiting = threading.Thread(
        target=lambda: done.append(MlflowStore(f"http://127.0.0.1:{port}", retry_s=120).find_run("0")),
        daemon=True,
    )
    waiting.start()
    with mlflow_server(tmp_path, port):
        waiting.join(60)
        assert done == [None]
    assert "no MLflow server answers there" in train("nobody", f"http://127.0.0.1:{port}").failure


def test_curves_are_completed_when_the_server_is_reachable_again(tmp_path, train, monkeypatch, caplog):
    write_epoch, stack = ProgressWriter.on_epoch, ExitStack()
    is_lost = threading.Event()
    log_epoch = Run.log_epoch

    def log_and_signal(run, metrics):
        log_epoch(run, metrics)
        if metrics["epoch"] >= 2:
            is_lost.set()

    def epoch(writer, metrics):
        if metrics["epoch"] == 2:
            stack.close()  # the server
        write_epoch(writer, metrics)
        if metrics["epoch"] == 2:
            assert is_lost.wait(120)
        if metrics["epoch"] == 3:
            stack.enter_context(mlflow_server(tmp_path, port))

    monkeypatch.setattr(ProgressWriter, "on_epoch", epoch)
    monkeypatch.setattr(Run, "log_epoch", log_and_signal)
    with stack:
        address = stack.enter_context(mlflow_server(tmp_path))
        port = int(address.rpartition(":")[2])
        job = train("interrupted", address, retry_s=3)
        client, run_id = MlflowStore(address).client, job.summary["run_id"]
        assert "are not in MLflow yet, training continues: no MLflow server answers there" in caplog.text
        for curve in ("train_logloss", "valid_auc"):
            assert steps_of(client, run_id, curve) == [1, 2, 3, 4]
        assert steps_of(client, run_id, "train_logloss_by_step") == list(range(1, 13))


def test_a_model_is_kept_and_registered_later_if_the_registry_is_unreachable(
    tmp_path, train, call_when_trained
):
    with ExitStack() as stack:
        address = stack.enter_context(mlflow_server(tmp_path))
        call_when_trained(stack.close)
        folder = kept_folder(train("late", address).failure)
    with mlflow_server(tmp_path, int(address.rpartition(":")[2])) as address:
        (tmp_path / "model.yaml").write_text(MODEL.replace("[4]", "[4], activation: tanh"))
        message = train("late", address, "--register-only", folder).mistake
        assert "expected deep {'hidden_units': [4], 'activation': 'relu'" in message
        (tmp_path / "model.yaml").write_text(MODEL)
        summary = train("late", address, "--register-only", folder).summary
        client = MlflowStore(address).client
        assert summary["version"] == "1"
        assert client.get_run(summary["run_id"]).info.status == "FINISHED"
        assert steps_of(client, summary["run_id"], "valid_auc") == [1, 2, 3, 4]
        again = train("late", address, "--register-only", folder)
    assert "expected the folder in" in again.mistake


# --- a SQLite file


class Lock:
    """A process that locks a database."""

    def __init__(self, path, seconds):
        code = (
            "import sqlite3, sys, time\n"
            "database = sqlite3.connect(sys.argv[1], timeout=60)\n"
            "database.execute('BEGIN EXCLUSIVE')\n"
            "print('held', flush=True)\n"
            "time.sleep(float(sys.argv[2]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "held\n"

    def release(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def database(profile_path, tmp_path):
    """Path of a copy of the tests' database: a new one takes seconds."""
    with sqlite3.connect(profile_path.parent / "mlflow.db") as source:
        source.backup(sqlite3.connect(tmp_path / "mlflow.db"))
    return tmp_path / "mlflow.db"


def test_a_locked_file_is_waited_for_and_then_reported(database, train, call_when_trained, store):
    uri, locks = f"sqlite:///{database}", []
    locks.append(Lock(database, 600))
    assert "database is locked; end the process" in train("locked", uri).failure
    locks.pop().release()

    # Locked for some seconds at the end of a training: it is registered afterwards.
    call_when_trained(lambda: locks.append(Lock(database, 4)))
    assert train("locked", uri, retry_s=60).summary["version"] == "1"
    locks.pop().release()

    # Locked permanently: the model is kept, and registered later.
    call_when_trained(lambda: locks.append(Lock(database, 600)))
    folder = kept_folder(train("locked", uri).failure)
    assert train("locked", uri, "--register-only", folder).status == 1
    locks.pop().release()
    assert train("locked", uri, "--register-only", folder).summary["version"] == "2"
