"""A training in MLflow's terms: what its run says at the start, and the version it ends in."""

import os
import tempfile
from dataclasses import asdict

from deepfm import storage
from deepfm.dataset.manifest import Manifest
from deepfm.features.vocabulary import Vocabulary
from deepfm.model_settings import ModelSettings
from deepfm.registry.artifact import save_artifact
from deepfm.registry.run import Run
from deepfm.registry.start import TRAINING_STATE
from deepfm.training.checkpoint import load_weights
from deepfm.training.outcome import Outcome
from deepfm.training.worker import OPTIMIZER, WEIGHTS, WorkOrder


def start_of_run(
    settings: ModelSettings, manifest: Manifest, dataset_url: str, num_workers: int
) -> tuple[dict, dict]:
    """(settings, manifest) for Run.log_start."""
    dataset = {"url": dataset_url, "digest": manifest.digest, "vocabulary": manifest.vocabulary}
    dataset |= {f"rows_{split}": part.num_rows for split, part in manifest.splits.items()}
    dataset["num_ids"] = sum(manifest.num_ids)
    document = {"digest": manifest.digest, **manifest.model_dump(mode="json")}
    return {**settings.model_dump(), "num_workers": num_workers, "dataset": dataset}, document


def register_outcome(
    run: Run, outcome: Outcome, order: WorkOrder, manifest: Manifest, vocabulary: Vocabulary, name: str
) -> str:
    """Log the final metrics, then make the best epoch's weights a version of `name` -> the version.

    The registration comes last: a job that fails before it leaves a FAILED run and no version.
    """
    finals = {
        "best_epoch": float(outcome.training.best),
        "best_train_logloss": outcome.best_epoch.train_logloss,
        "num_weights": float(outcome.num_weights),
    }
    for split, metrics in (("valid", outcome.valid), ("test", outcome.test)):
        finals |= {f"best_{split}_{key}": float(value) for key, value in asdict(metrics).items()}
        finals[f"best_{split}_calibration"] = metrics.calibration
    run.log_metrics(finals)
    weights = load_weights(f"{order.run_url}/{WEIGHTS}")
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/{order.model.model}"  # its name is seen in MLflow
        os.mkdir(folder)
        save_artifact(f"file://{folder}", order.model, manifest, vocabulary, weights)
        tags = {"dataset": manifest.digest, "model": order.model.model}
        tags |= {key: f"{getattr(outcome.test, key):.6f}" for key in ("logloss", "auc")}
        if storage.exists(f"{order.run_url}/{OPTIMIZER}"):
            run.log_bytes(storage.read_bytes(f"{order.run_url}/{OPTIMIZER}"), f"{TRAINING_STATE}/{OPTIMIZER}")
        return run.register(folder, name, vocabulary, tags)
