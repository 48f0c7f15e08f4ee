"""Settings and results of small jobs on a cluster."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import yaml
from standalone import ROOT

from deepfm.tracking.store import MlflowStore

DAYS = ("--train-days=2026-01-01:2026-01-02", "--valid-days=2026-01-03", "--test-days=2026-01-04")
TRAINING = {"batch_size": 1024, "max_epochs": 1, "learning_rate": 0.001}
MODEL = {"model": "deepfm", "embedding_dim": 4, "deep": {"hidden_units": [16], "dropout": 0.5}}


def write_settings(folder: Path, tracking_uri: str, training: dict, **workers) -> tuple[Path, Path]:
    """Write the standalone profile, with the URIs of this test, and a small model -> their paths."""
    profile = yaml.safe_load((ROOT / "conf/profile/standalone.yaml").read_text())
    profile["work_dir"] = str(folder / "runs")
    profile["mlflow"] = {"tracking_uri": tracking_uri}
    if not tracking_uri.startswith("http"):  # a server configures it itself
        profile["mlflow"]["artifact_location"] = str(folder / "artifacts")
    profile["workers"] |= workers
    profile["spark"] |= {"spark.executor.memory": "1g", "spark.sql.shuffle.partitions": 4}
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    (folder / "model.yaml").write_text(yaml.safe_dump({**MODEL, "training": training}))
    return folder / "profile.yaml", folder / "model.yaml"


def finish(process: subprocess.Popen, timeout_s: float = 600) -> dict:
    """Wait for a submitted job and return its summary; if it failed, fail with its output."""
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, output
    return json.loads([line for line in output.splitlines() if line.startswith(("{", "["))][-1])


@contextmanager
def record_arguments() -> Iterator[set[str]]:
    """Record the command lines of all processes of this machine during the block."""
    arguments, stop = set(), threading.Event()

    def sample() -> None:
        while not stop.wait(0.5):
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    arguments.add(" ".join(process.cmdline()))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield arguments
    finally:
        stop.set()
        thread.join()


def weights(tracking_uri: str, name: str, version: str) -> bytes:
    """Return the content of the weights file of a registered version."""
    store = MlflowStore(tracking_uri, None)
    with tempfile.TemporaryDirectory() as folder:
        store.download(store.resolve(f"models:/{name}/{version}"), folder)
        (file,) = Path(folder).rglob("weights.safetensors")
        return file.read_bytes()
