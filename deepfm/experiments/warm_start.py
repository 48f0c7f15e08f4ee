"""Weights to start a training from: a registered FM for an FNN, or a registered model (warm start)."""

import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor

from deepfm import storage
from deepfm.artifact.artifact import ModelCard, load_artifact
from deepfm.artifact.training_data import TrainingData
from deepfm.dataset.manifest import Manifest
from deepfm.errors import UserError
from deepfm.experiments.lineage import (
    STARTED_FROM,
    load_started_from,
    read_lineage,
    save_started_from,
)
from deepfm.features.vocabulary.grow import previous_ids
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.launch.job_spec import OPTIMIZER, WEIGHTS, TrainJob
from deepfm.model_factory import build_model
from deepfm.models.grow_tables import Growth
from deepfm.registry.seen_rows import ModelLineage
from deepfm.settings.model import OWN_SETTINGS, ModelSettings
from deepfm.tracking.entities import ModelVersion
from deepfm.tracking.errors import FAILURES, to_job_error
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore
from deepfm.weights import load_weights, save_weights

#: Artifact folder of a run with state that is needed to continue training, but not to score.
TRAINING_STATE = "training_state"
_START = "start"  # in the run folder
_STARTED_FROM = "started_from.json"  # in _START


@dataclass(frozen=True)
class Start:
    """Weights to start from."""

    version: ModelVersion  # source of the weights
    weights: dict[str, Tensor]  # for an FNN: those of the FM
    lineage: ModelLineage  # what the model was trained on
    optimizer_state: dict[str, Tensor] | None = None  # by WEIGHT/NAME; empty: starts without state

    def save(self, run: Run, run_url: str) -> None:
        """Save them in the run folder for the workers, and tag the run with their source."""
        run.set_tag(STARTED_FROM, f"models:/{self.version.name}/{self.version.version}")
        url = f"{run_url}/{_START}"
        storage.make_folder(url)
        save_weights(f"{url}/{WEIGHTS}", self.weights)
        if self.optimizer_state:
            save_weights(f"{url}/{OPTIMIZER}", self.optimizer_state)
        save_started_from(f"{url}/{_STARTED_FROM}", self.lineage)


def start_options(run_url: str, init_from: str | None, warm_start: str | None) -> dict[str, str]:
    """Options of a TrainJob for the weights to start from in a run folder."""
    url = f"{run_url}/{_START}"
    if init_from:
        return {"init_url": f"{url}/{WEIGHTS}"}
    return {"start_url": url} if warm_start else {}


def started_from(job: TrainJob) -> tuple[TrainingData, ...] | None:
    """Data of the models that a training started from, None if unknown; see ModelCard.started_from."""
    if not (job.init_url or job.start_url):
        return ()
    return load_started_from(f"{job.run_url}/{_START}/{_STARTED_FROM}")


def read_start(
    store: MlflowStore,
    init_from: str | None,
    warm_start: str | None,
    settings: ModelSettings,
    manifest: Manifest,
    vocabulary: Vocabulary,
) -> Start | None:
    """Read the model that --init-from or --warm-start names; None if neither is given.

    Raises UserError if it is another kind of model than needed, or its ids have another meaning.
    """
    if init_from and warm_start:
        raise UserError("--init-from and --warm-start exclude each other; use one of them")
    if init_from:
        return _read_first_stage(store, init_from, settings, manifest)
    return _read_warm_start(store, warm_start, settings, manifest, vocabulary) if warm_start else None


def _read_first_stage(store: MlflowStore, uri: str, settings: ModelSettings, manifest: Manifest) -> Start:
    """Read a registered FM; UserError for another model, or other fields, ids or embedding dimension."""
    if settings.model != "fnn":
        raise UserError(f"--init-from: only fnn starts from another model, found {settings.model}; remove it")
    if settings.pretraining:
        raise UserError(
            f"--init-from {uri}: expected no pretraining in --model, found settings of an FM to train first; "
            "remove one of them"
        )
    version = store.resolve_run(uri)
    with tempfile.TemporaryDirectory() as folder:
        source = load_artifact(f"file://{store.download(version, folder)}")
    expected = ("fm", settings.embedding_dim, manifest.vocabulary, manifest.num_ids)
    card = source.card
    if (card.model.model, card.model.embedding_dim, card.vocabulary, card.num_ids) != expected:
        raise UserError(
            f"--init-from {uri}: expected an fm with embedding_dim {settings.embedding_dim} and vocabulary "
            f"{manifest.vocabulary}, found {card.model.model} with {card.model.embedding_dim} and "
            f"{card.vocabulary}; train an fm on this dataset"
        )
    _require_same_sample(f"--init-from {uri}", card, manifest)
    lineage = read_lineage(store, version, card)
    return Start(version, source.network.state_dict(), lineage)


def _read_warm_start(
    store: MlflowStore, uri: str, settings: ModelSettings, manifest: Manifest, vocabulary: Vocabulary
) -> Start:
    """Read a registered model; UserError if the ids of the dataset did not grow from those of the model."""
    version = store.resolve_run(uri)
    with tempfile.TemporaryDirectory() as folder:
        path = store.download(version, folder)
        source, old_vocabulary = load_artifact(f"file://{path}"), Vocabulary.load(f"file://{path}")
    _require_same_model(uri, source.card.model, settings)
    try:
        ids = previous_ids(old_vocabulary, vocabulary)
    except UserError as error:
        raise UserError(f"--warm-start {uri}: {error}") from error
    _require_same_sample(f"--warm-start {uri}", source.card, manifest)
    growth = Growth([torch.from_numpy(field_ids) for field_ids in ids], source.card.num_ids)
    with torch.device("meta"):  # only shapes are needed
        fields = manifest.fields
        model = build_model(settings, manifest.num_ids, fields.num_crossed, fields.num_slots)
    same_optimizer = source.card.model.training.optimizer == settings.training.optimizer
    state = growth.moments(model, _optimizer_state(store, version)) if same_optimizer else {}
    lineage = read_lineage(store, version, source.card)
    return Start(version, growth.weights(model, source.network.state_dict()), lineage, state)


def _require_same_sample(flag: str, card: ModelCard, manifest: Manifest) -> None:
    """Raise UserError if the model was trained with another share of negatives, so its logits are shifted."""
    expected, actual = card.data.keep_negatives, manifest.data.keep_negatives
    if expected != actual:
        raise UserError(
            f"{flag}: expected a dataset with keep_negatives {expected}, found {actual}; build it with that "
            "value, or train without this flag"
        )


def _require_same_model(uri: str, old: ModelSettings, new: ModelSettings) -> None:
    for key in ("model", "embedding_dim", "deep", *OWN_SETTINGS):
        expected, actual = getattr(old, key), getattr(new, key)
        if expected != actual:
            raise UserError(
                f"--warm-start {uri}: expected {key} {expected}, found {actual} in --model; use the settings "
                "that the model was trained with, or train without --warm-start"
            )


def _optimizer_state(store: MlflowStore, version: ModelVersion) -> dict[str, Tensor]:
    """Optimizer state of a version; empty if its run did not save it."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"runs:/{version.run_id}/{TRAINING_STATE}/{OPTIMIZER}"
        try:
            path = store.download_artifact(uri, folder)
        except FAILURES as error:
            if to_job_error(error):
                raise
            return {}
        except OSError:
            return {}
        return load_weights(f"file://{path}")
