"""Data that a registered version was trained on, including the models that its training started from."""

import tempfile

from deepfm import storage
from deepfm.artifact.artifact import ModelCard, load_artifact
from deepfm.artifact.training_data import TrainingData
from deepfm.errors import UserError
from deepfm.registry.seen_rows import ModelLineage
from deepfm.settings.loader import parse_settings
from deepfm.tracking.entities import ModelVersion
from deepfm.tracking.store import MlflowStore

#: Tag of a run with the model that its training started from.
STARTED_FROM = "started_from"


def read_lineage(store: MlflowStore, version: ModelVersion, card: ModelCard, role: str = "") -> ModelLineage:
    """Return the data of a version and of the models that it started from; `role`: see ModelLineage.

    An artifact of an earlier version of this project does not record them: they are then read from the
    models that the tags of the runs name.
    """
    number, data = str(version.version), [card.training_data(_uri(version))]
    while card.started_from is None and (uri := _start_tag(store, version)):
        try:
            version = store.resolve(uri)
            card = _read_card(store, version)
        except UserError as error:
            return ModelLineage(number, tuple(data), role, f"{uri}, which cannot be read ({error})")
        if _uri(version) in [part.model for part in data]:
            break
        data.append(card.training_data(_uri(version)))
    return ModelLineage(number, (*data, *(card.started_from or ())), role)


def _uri(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def _start_tag(store: MlflowStore, version: ModelVersion) -> str | None:
    run = store.find_run(version.run_id) if version.run_id else None
    return run.data.tags.get(STARTED_FROM) if run else None


def _read_card(store: MlflowStore, version: ModelVersion) -> ModelCard:
    with tempfile.TemporaryDirectory() as folder:
        return load_artifact(f"file://{store.download(version, folder)}").card


def save_started_from(url: str, lineage: ModelLineage) -> None:
    """Write the data of the model that a training starts from, for its artifact; nothing if incomplete."""
    if not lineage.unknown_start:
        storage.write_json(url, [part.model_dump(mode="json") for part in lineage.data])


def load_started_from(url: str) -> tuple[TrainingData, ...] | None:
    """Read what `save_started_from` wrote; None if it was incomplete, or written by an earlier version."""
    if not storage.exists(url):
        return None
    return tuple(parse_settings(part, TrainingData, url) for part in storage.read_json(url))
