"""What a training starts from: nothing, a trained FM (first stage of FNN), or a model that goes on."""

import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor

from deepfm import storage
from deepfm.artifact.artifact import ModelCard, load_artifact
from deepfm.dataset.manifest import Manifest
from deepfm.errors import UserError
from deepfm.features.vocabulary.grow import previous_ids
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.launch.job_spec import OPTIMIZER, WEIGHTS
from deepfm.model_factory import build_model
from deepfm.models.grow_tables import Growth
from deepfm.settings.model import OWN_SETTINGS, ModelSettings
from deepfm.tracking.entities import ModelVersion
from deepfm.tracking.errors import FAILURES, to_job_error
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore
from deepfm.weights import load_weights, save_weights

#: Where a run keeps what is needed to go on training, and scoring has no use for.
TRAINING_STATE = "training_state"
_START = "start"  # in a run's folder


@dataclass(frozen=True)
class Start:
    """Weights to start from."""

    version: ModelVersion  # whose they are
    weights: dict[str, Tensor]  # of an FNN's first stage: the FM's
    moments: dict[str, Tensor] | None = None  # of its optimizer, as WEIGHT/WHAT; empty: they begin anew

    def hand_over(self, run: Run, run_url: str) -> None:
        """Put them where the workers find them, and whose they are into the run's tags."""
        run.set_tag("started_from", f"models:/{self.version.name}/{self.version.version}")
        url = f"{run_url}/{_START}"
        storage.make_folder(url)
        save_weights(f"{url}/{WEIGHTS}", self.weights)
        if self.moments:
            save_weights(f"{url}/{OPTIMIZER}", self.moments)


def handed_over(run_url: str, init_from: str | None, warm_start: str | None) -> dict[str, str]:
    """What a TrainJob says of the weights that lie in a run's folder to start from."""
    url = f"{run_url}/{_START}"
    if init_from:
        return {"init_url": f"{url}/{WEIGHTS}"}
    return {"start_url": url} if warm_start else {}


def read_start(
    store: MlflowStore,
    init_from: str | None,
    warm_start: str | None,
    settings: ModelSettings,
    manifest: Manifest,
    vocabulary: Vocabulary,
) -> Start | None:
    """What --init-from or --warm-start name, for `settings` on a dataset; None where neither is given.

    UserError where it is another kind of model than is needed, or knows ids by other meanings.
    """
    if init_from and warm_start:
        raise UserError("--init-from and --warm-start exclude each other; give one of them")
    if init_from:
        return _read_first_stage(store, init_from, settings, manifest)
    return _read_warm_start(store, warm_start, settings, manifest, vocabulary) if warm_start else None


def _read_first_stage(store: MlflowStore, uri: str, settings: ModelSettings, manifest: Manifest) -> Start:
    """A registered FM; UserError where it is none, or one of other fields, ids or embedding dimension."""
    if settings.model != "fnn":
        raise UserError(f"--init-from: only fnn starts from another model, found {settings.model}; drop it")
    if settings.pretraining:
        raise UserError(
            f"--init-from {uri}: expected no pretraining in --model, found settings of an FM that would be "
            "trained first; leave one of them out"
        )
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
    _require_same_sample(f"--init-from {uri}", card, manifest)
    return Start(version, found.network.state_dict())


def _read_warm_start(
    store: MlflowStore, uri: str, settings: ModelSettings, manifest: Manifest, vocabulary: Vocabulary
) -> Start:
    """A registered model that goes on; UserError where the dataset's ids did not grow from the model's."""
    version = store.resolve_run(uri)
    with tempfile.TemporaryDirectory() as folder:
        path = store.download(version, folder)
        found, old_vocabulary = load_artifact(f"file://{path}"), Vocabulary.load(f"file://{path}")
    _require_same_model(uri, found.card.model, settings)
    try:
        ids = previous_ids(old_vocabulary, vocabulary)
    except UserError as error:
        raise UserError(f"--warm-start {uri}: {error}") from error
    _require_same_sample(f"--warm-start {uri}", found.card, manifest)
    growth = Growth([torch.from_numpy(of_field) for of_field in ids], found.card.num_ids)
    with torch.device("meta"):  # its shape is needed, not its weights
        fields = manifest.fields
        model = build_model(settings, manifest.num_ids, fields.num_crossed, fields.num_slots)
    same_optimizer = found.card.model.training.optimizer == settings.training.optimizer
    moments = growth.moments(model, _moments(store, version)) if same_optimizer else {}
    return Start(version, growth.weights(model, found.network.state_dict()), moments)


def _require_same_sample(flag: str, card: ModelCard, manifest: Manifest) -> None:
    """UserError where the weights hold other odds: of another share of the rows without a click."""
    kept, found = card.data.keep_negatives, manifest.data.keep_negatives
    if kept != found:
        raise UserError(
            f"{flag}: expected a dataset with keep_negatives {kept}, found {found}; build it with the "
            "model's, or train anew"
        )


def _require_same_model(uri: str, old: ModelSettings, new: ModelSettings) -> None:
    for key in ("model", "embedding_dim", "deep", *OWN_SETTINGS):
        before, now = getattr(old, key), getattr(new, key)
        if before != now:
            raise UserError(
                f"--warm-start {uri}: expected {key} {before}, found {now} in --model; give the settings the "
                "model was trained with, or train anew"
            )


def _moments(store: MlflowStore, version: ModelVersion) -> dict[str, Tensor]:
    """What the version's optimizer remembered; empty where its run did not keep it."""
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
