"""MLflow's store: its experiments and runs, its registered models, their versions and files."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import environment_variables
from mlflow.entities import LifecycleStage
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from deepfm.errors import UserError
from deepfm.settings.deployment import MlflowSettings
from deepfm.tracking.errors import FAILURES, access_denied, as_told, is_access_denied, reason_of
from deepfm.tracking.quiet import silence_mlflow
from deepfm.tracking.run import Run
from deepfm.tracking.uri import num_retries, require_reachable, without_credentials

#: So that MLflow's pages show runs, curves and models, and not what is for chatbots.
_OF_EXPERIMENTS = {"mlflow.experimentKind": "custom_model_development"}

logger = logging.getLogger(__name__)


def open_store(settings: MlflowSettings, tracking_uri: str | None = None) -> "MlflowStore":
    """The profile's store, or the one at `tracking_uri`; UserError where it cannot be reached."""
    store = MlflowStore(tracking_uri or settings.tracking_uri, settings.artifact_location, settings.retry_s)
    store.measure_system(settings.system_metrics_every_s)
    return store


class MlflowStore:
    """One MLflow tracking store with its model registry; UserError where it cannot be reached."""

    def __init__(self, uri: str, artifact_location: str | None = None, retry_s: float = 60.0):
        """`uri` may hold a user and a password, which are kept nowhere; `retry_s`: how long to try."""
        silence_mlflow()
        self.uri, user, password = without_credentials(uri)
        self._artifact_location, self._retry_s = artifact_location, retry_s
        self._measures_system = False
        require_reachable(self.uri, retry_s)
        environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(num_retries(retry_s))
        if user is not None:
            environment_variables.MLFLOW_TRACKING_USERNAME.set(user)
            environment_variables.MLFLOW_TRACKING_PASSWORD.set(password)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        try:
            self.client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            self.client.search_experiments(max_results=1)
        except FAILURES as error:
            if is_access_denied(error):
                raise access_denied(self.uri) from error
            raise UserError(
                f"{self.uri}: MLflow cannot use it: {reason_of(error)}; choose another --tracking-uri"
            ) from error

    def measure_system(self, every_s: float) -> None:
        """How often the runs that ask for it log load and memory of this machine; 0: never."""
        self._measures_system = every_s > 0
        if every_s:
            mlflow.set_system_metrics_sampling_interval(every_s)

    def wait(self) -> None:
        """Until the store can be used again; TrackingUnavailableError where it stays away."""
        require_reachable(self.uri, self._retry_s)

    @contextmanager
    def run(
        self,
        experiment: str,
        *,
        name: str | None = None,
        tags: dict[str, str] | None = None,
        nested: bool = False,
        system_metrics: bool = False,
    ) -> Iterator[Run]:
        """A new run of an experiment, which is made if it is new.

        FAILED where the block raises, KILLED where a signal ends it.

        With nested=True it is a child of the run that is open. `system_metrics`: load and memory of this
        machine are logged too, unless the profile says that they are not.
        """
        experiment_id = self._experiment_id(experiment)
        active = mlflow.start_run(
            experiment_id=experiment_id,
            run_name=name,
            tags=tags,
            nested=nested,
            log_system_metrics=system_metrics and self._measures_system,
        )
        with self._ended(active.info.run_id) as run:
            yield run

    @contextmanager
    def resumed(self, run_id: str, *, system_metrics: bool = False) -> Iterator[Run]:
        """A run that was left unfinished, open again."""
        mlflow.start_run(run_id=run_id, log_system_metrics=system_metrics and self._measures_system)
        with self._ended(run_id) as run:
            yield run

    @contextmanager
    def _ended(self, run_id: str) -> Iterator[Run]:
        """The open run, ended with the block."""
        try:
            yield Run(self.client, run_id, self.wait)
        except BaseException as ended_by:
            try:
                mlflow.end_run("FAILED" if isinstance(ended_by, Exception) else "KILLED")
            except FAILURES as error:  # which must not hide what the user has to know
                logger.warning("run %s stays RUNNING at %s: %s", run_id, self.uri, reason_of(error))
            raise
        mlflow.end_run()

    def find_run(self, run_id: str) -> mlflow.entities.Run | None:
        """The run; None where there is none."""
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if as_told(error):
                raise
            return None

    def find_runs(self, experiment: str, condition: str) -> list[mlflow.entities.Run]:
        """Runs of an experiment that meet a condition in MLflow's language, newest first."""
        return self.client.search_runs(
            [self._experiment_id(experiment)], condition, order_by=["attributes.start_time DESC"]
        )

    def _experiment_id(self, experiment: str) -> str:
        found = self.client.get_experiment_by_name(experiment)
        if found and found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UserError(
                f"experiment {experiment} was deleted at {self.uri}; restore it, or give another --experiment"
            )
        return found.experiment_id if found else self._new_experiment(experiment)

    def _new_experiment(self, name: str) -> str:
        local = self.uri.startswith("sqlite:") and self._artifact_location
        location = _as_uri(self._artifact_location) if local else None
        return self.client.create_experiment(name, artifact_location=location, tags=_OF_EXPERIMENTS)

    def require_name(self, name: str) -> None:
        """UserError for a name that no registered model can have: better now than after the training."""
        if not name.strip() or set(name) & set("/:@?#%"):
            raise UserError(
                f"--name: expected a model's name without / : @ ? # %, found {name!r}; choose another"
            )

    def resolve_run(self, uri: str) -> ModelVersion:
        """As `resolve`, and runs:/RUN_ID -> the version that the run registered."""
        if not uri.startswith("runs:/"):
            return self.resolve(uri)
        run_id = uri.removeprefix("runs:/")
        versions = self.client.search_model_versions(f"run_id = '{run_id}'") if run_id.isalnum() else []
        if not versions:
            raise UserError(f"{uri}: no run at {self.uri} that registered a model; check its id")
        return versions[0]

    def resolve(self, model_uri: str) -> ModelVersion:
        """models:/NAME@ALIAS or models:/NAME/VERSION -> the version: resolve once, then speak of it."""
        name, separator, which = model_uri.removeprefix("models:/").partition("@")
        if not separator:
            name, separator, which = name.rpartition("/")
        if not (model_uri.startswith("models:/") and name and which):
            raise UserError(
                f"--model-uri: expected models:/NAME@ALIAS or models:/NAME/VERSION, found {model_uri}"
            )
        try:
            if "@" in model_uri:
                return self.client.get_model_version_by_alias(name, which)
            return self.client.get_model_version(name, which)
        except MlflowException as error:
            if as_told(error):
                raise
            raise UserError(
                f"{model_uri}: no such model at {self.uri} ({error.message}); "
                "train and promote one, or check the name"
            ) from error

    def latest(self, name: str) -> ModelVersion:
        """The newest version of a model; UserError where there is none."""
        versions = self.client.search_model_versions(f"name = '{name}'") if "'" not in name else []
        if not versions:
            raise UserError(
                f"no version of a model {name} at {self.uri}; train one with train.py --name {name}"
            )
        return max(versions, key=lambda version: int(version.version))

    def keep_verdict(self, version: ModelVersion, document: dict) -> None:
        """Write what the gate said into the run that trained a version, and onto the version."""
        if version.run_id:
            self.client.log_dict(version.run_id, document, "gate/verdict.json")
        tags = {"gate": "promoted" if document["promoted"] else "refused"}
        tags["gate.reasons"] = "; ".join(document["reasons"])[:5000]
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, str(version.version), key, value)

    def download_artifact(self, uri: str, folder: str) -> str:
        """Download an artifact, given as runs:/ID/PATH or models:/NAME/VERSION, and return its local path."""
        return mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=self.uri)

    def download(self, version: ModelVersion, folder: str) -> str:
        """Copy a version's files under `folder` -> the path of our model folder in them."""
        uri = f"models:/{version.name}/{version.version}"
        try:
            path = self.download_artifact(uri, folder)
            return str(Path(path) / Model.load(path).flavors["python_function"]["data"])
        except (MlflowException, OSError, KeyError) as error:
            if as_told(error):
                raise
            raise UserError(
                f"{uri}: its files cannot be read from {self.uri}: {error}; register it again"
            ) from error


def _as_uri(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()
