"""State of a registered model: its champion, previous champion and candidate."""

import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from deepfm import storage
from deepfm.registry.promotion import CANDIDATE, CHAMPION, PREVIOUS, history, registered_model
from deepfm.tracking.entities import MlflowException, ModelVersion
from deepfm.tracking.errors import to_job_error
from deepfm.tracking.store import MlflowStore

_SECONDS_PER_DAY = 86_400
#: Prefix of the metrics of the test rows in the run that trained a version.
_TEST_PREFIX = "best_test_"


@dataclass(frozen=True)
class VersionStatus:
    """State of one model version."""

    version: str
    registered_at: str  # ISO 8601, UTC
    age_days: float  # since it was registered
    train_days: tuple[str, str] | None  # first and last; None: not split by days, or unknown
    test_metrics: dict[str, float]  # such as auc and logloss; empty if its run is gone
    gate: str | None  # promoted or refused; None: promote.py has not compared it
    gate_reasons: str | None


@dataclass(frozen=True)
class ModelStatus:
    """State of a registered model; None for an alias that no version has."""

    name: str
    champion: VersionStatus | None
    champion_since: str | None  # ISO 8601, UTC; None: no champion, or its alias was moved by hand
    previous: VersionStatus | None
    candidate: VersionStatus | None


def model_status(store: MlflowStore, name: str, *, now: datetime) -> ModelStatus:
    """Read the state of a model at the time `now`; raise UserError if the model does not exist."""
    versions = {
        alias: _version_status(store, store.resolve(f"models:/{name}/{version}"), now)
        for alias, version in registered_model(store, name).aliases.items()
        if alias in (CHAMPION, PREVIOUS, CANDIDATE)
    }
    champion = versions.get(CHAMPION)
    since = _champion_since(store, name, champion.version) if champion else None
    return ModelStatus(name, champion, since, versions.get(PREVIOUS), versions.get(CANDIDATE))


def _champion_since(store: MlflowStore, name: str, version: str) -> str | None:
    changes = history(store, name)
    return changes[-1].at if changes and changes[-1].version == version else None


def _version_status(store: MlflowStore, version: ModelVersion, now: datetime) -> VersionStatus:
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, timezone.utc)
    return VersionStatus(
        version=str(version.version),
        registered_at=registered.isoformat(timespec="seconds"),
        age_days=round((now - registered).total_seconds() / _SECONDS_PER_DAY, 1),
        train_days=_train_days(store, version.run_id),
        test_metrics=_test_metrics(store, version.run_id),
        gate=version.tags.get("gate"),
        gate_reasons=version.tags.get("gate.reasons"),
    )


def _test_metrics(store: MlflowStore, run_id: str | None) -> dict[str, float]:
    run = store.find_run(run_id) if run_id else None
    metrics: dict[str, float] = run.data.metrics if run else {}
    return {
        key.removeprefix(_TEST_PREFIX): value
        for key, value in metrics.items()
        if key.startswith(_TEST_PREFIX)
    }


def _train_days(store: MlflowStore, run_id: str | None) -> tuple[str, str] | None:
    """Read the days from the manifest in the run: the model's own files may have gigabytes."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = store.download_artifact(f"runs:/{run_id}/dataset_manifest.json", folder)
            manifest: dict[str, Any] = storage.read_json(f"file://{path}")
    except (MlflowException, OSError, ValueError) as error:
        if to_job_error(error):
            raise
        return None
    days = manifest.get("input", {}).get("days", {}).get("train")
    return (days[0], days[1]) if days else None
