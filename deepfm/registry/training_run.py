"""A training in MLflow's terms: what its run says at the start, and the version it ends in."""

import os
import tempfile
from dataclasses import asdict

from deepfm.config import ModelSettings
from deepfm.dataset.manifest import Manifest, read_manifest
from deepfm.errors import UserError
from deepfm.features.vocabulary import Vocabulary
from deepfm.registry.artifact import save_artifact
from deepfm.registry.tracking import Run
from deepfm.training.checkpoint import load_weights
from deepfm.training.worker import WEIGHTS, Outcome, WorkOrder


def read_parts(dataset_url: str) -> tuple[Manifest, Vocabulary]:
    """A dataset's manifest and vocabulary; UserError where one is missing, damaged or another dataset's.

    Before the workers are asked for: the model that needs both comes after hours of training.
    """
    manifest, vocabulary = read_manifest(dataset_url), Vocabulary.load(dataset_url)
    if vocabulary.fingerprint != manifest.vocabulary:
        raise UserError(
            f"{dataset_url} was encoded with vocabulary {manifest.vocabulary} but {vocabulary.fingerprint} "
            "lies in it; build the dataset again"
        )
    return manifest, vocabulary


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
        return run.register(folder, name, vocabulary, tags)
