"""A training in MLflow's terms: what its run says at the start, and the version it ends in."""

import os
import tempfile
from dataclasses import asdict

from torch import Tensor

from deepfm.dataset.manifest import Manifest, read_manifest
from deepfm.errors import UserError
from deepfm.features.vocabulary import Vocabulary
from deepfm.model_settings import ModelSettings
from deepfm.registry.artifact import load_artifact, save_artifact
from deepfm.registry.run import Run
from deepfm.registry.tracking import Store
from deepfm.training.checkpoint import load_weights, save_weights
from deepfm.training.outcome import Outcome
from deepfm.training.worker import WEIGHTS, WorkOrder


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


def read_first_stage(
    store: Store, uri: str | None, settings: ModelSettings, manifest: Manifest
) -> dict[str, Tensor] | None:
    """Weights of the registered FM that an FNN is to start from; None without a URI.

    UserError where the version is no FM, or one of other fields, ids or embedding dimension.
    """
    if uri is None:
        return None
    if settings.model != "fnn":
        raise UserError(f"--init-from: only fnn starts from another model, found {settings.model}; drop it")
    version = store.resolve_run(uri)
    with tempfile.TemporaryDirectory() as folder:
        found = load_artifact(f"file://{store.download(version, folder)}")
    expected = ("fm", settings.embedding_dim, manifest.vocabulary, manifest.num_ids)
    card = found.card
    if (card.model.model, card.model.embedding_dim, card.vocabulary, card.num_ids) != expected:
        raise UserError(
            f"--init-from {uri}: expected an fm with embedding_dim {settings.embedding_dim} and vocabulary "
            f"{manifest.vocabulary}, found {card.model.model} with {card.model.embedding_dim} and "
            f"{card.vocabulary}; train an fm on this dataset"
        )
    return found.network.state_dict()


def hand_over(weights: dict[str, Tensor] | None, run_url: str) -> str | None:
    """Put the weights to start from where the workers find them -> their URL."""
    if weights is None:
        return None
    save_weights(f"{run_url}/init.safetensors", weights)
    return f"{run_url}/init.safetensors"


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
        return run.register(folder, name, vocabulary, tags)
