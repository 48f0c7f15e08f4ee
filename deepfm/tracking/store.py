"""MLflow tracking store and model registry: experiments, runs, model versions and their files."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import environment_variables
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.entities import PagedList

from deepfm.errors import UserError
from deepfm.settings.deployment import MlflowSettings
from deepfm.tracking.connection import connect, set_request_retries
from deepfm.tracking.errors import FAILURES, failure_reason, to_job_error
from deepfm.tracking.experiments import DEFAULT_EXPERIMENT_ID, experiment_id, find_experiment
from deepfm.tracking.logging import silence_mlflow
from deepfm.tracking.registration_check import RegistrationCheck
from deepfm.tracking.run import Run
from deepfm.tracking.uri import absolute_uri, is_database, is_server, split_credentials, with_installed_driver

logger = logging.getLogger(__name__)


def open_store(settings: MlflowSettings, tracking_uri: str | None = None) -> "MlflowStore":
    """Open the profile's store, or the one at `tracking_uri`; see MlflowStore for the errors raised."""
    store = MlflowStore(
        tracking_uri or settings.tracking_uri,
        settings.artifact_location,
        settings.retry_s,
        registry_uri=settings.registry_uri,
    )
    store.measure_system(settings.system_metrics_every_s)
    return store


class MlflowStore:
    """MLflow tracking store with its model registry."""

    def __init__(
        self,
        uri: str,
        artifact_location: str | None = None,
        retry_s: float = 60.0,
        *,
        registry_uri: str | None = None,
    ):
        """Connect to the store.

        `uri` may contain a user and a password, which are not shown; `retry_s`: seconds to retry;
        `registry_uri`: of the model registry, if it is another store. Raise TrackingUnavailableError if it is
        unreachable or locked, UserError if it cannot be used or refuses the credentials.
        """
        silence_mlflow()
        self.uri, user, password = split_credentials(absolute_uri(uri))
        self._uri = with_installed_driver(absolute_uri(uri))
        self._artifact_location, self._retry_s = artifact_location, retry_s
        self._registry_uri = registry_uri and absolute_uri(registry_uri)
        self._measures_system = False
        if is_server(self._uri):
            self._uri = self.uri
            if user is not None:
                environment_variables.MLFLOW_TRACKING_USERNAME.set(user)
                environment_variables.MLFLOW_TRACKING_PASSWORD.set(password)
        self.client = connect(self._uri, self._registry_uri, retry_s)
        set_request_retries(retry_s)
        self._set_global_uris()

    def _set_global_uris(self) -> None:
        """Make functions of the mlflow module use this store."""
        variable = environment_variables.MLFLOW_TRACKING_URI
        before = variable.get_raw()
        mlflow.set_tracking_uri(self._uri)
        mlflow.set_registry_uri(self._registry_uri)  # type: ignore[arg-type] # None: MLflow's default
        # MLflow sets the variable for subprocesses. No process of a job reads it, and it may have a password.
        if before is None:
            variable.unset()
        else:
            variable.set(before)

    def measure_system(self, every_s: float) -> None:
        """Set the interval, in seconds, of the system metrics of runs that log them; 0: never."""
        self._measures_system = every_s > 0
        if every_s:
            mlflow.set_system_metrics_sampling_interval(every_s)

    def wait(self) -> None:
        """Block until the store is reachable; raise TrackingUnavailableError after the retry time."""
        connect(self._uri, self._registry_uri, self._retry_s)

    def check_registration(self, name: str, experiment: str) -> None:
        """Check that a model can be registered as `name`, with a probe that is removed again.

        Raise UserError with the remedy if a step is refused.
        """
        experiment_id, location = self._artifacts_of(experiment)
        self._registration_check().check_all(name, experiment_id, location)

    def check_artifacts(self, experiment: str) -> None:
        """Check that artifacts of an experiment can be written; raise UserError if it is refused."""
        self._registration_check().check_artifacts(self._artifacts_of(experiment)[1])

    def check_promotion(self, name: str) -> None:
        """Check that an alias of the model `name` can be set; raise UserError if it is refused."""
        self._registration_check().check_registry(name)

    def _registration_check(self) -> RegistrationCheck:
        return RegistrationCheck(self.client, self._uri, mlflow.get_registry_uri())

    def _artifacts_of(self, experiment: str) -> tuple[str, str]:
        """(id, artifact location) of an experiment or, if it does not exist yet, of the default one."""
        if existing := find_experiment(self.client, experiment):
            return existing.experiment_id, existing.artifact_location
        default = self.client.get_experiment(DEFAULT_EXPERIMENT_ID)
        return default.experiment_id, self._new_location() or default.artifact_location

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
        """Open a new run of an experiment, which is created if it does not exist.

        The run is FAILED if the block raises, KILLED if a signal ends it. With nested=True it is a child of
        the open run. `system_metrics`: also log load and memory of this machine, if the profile allows it.
        """
        active = mlflow.start_run(
            experiment_id=self._experiment_id(experiment),
            run_name=name,
            tags=tags,
            nested=nested,
            log_system_metrics=system_metrics and self._measures_system,
        )
        with self._end_with_block(active.info.run_id) as run:
            yield run

    @contextmanager
    def resumed(self, run_id: str, *, system_metrics: bool = False) -> Iterator[Run]:
        """Open an unfinished run again."""
        mlflow.start_run(run_id=run_id, log_system_metrics=system_metrics and self._measures_system)
        with self._end_with_block(run_id) as run:
            yield run

    @contextmanager
    def _end_with_block(self, run_id: str) -> Iterator[Run]:
        """Yield the open run and end it with the block."""
        try:
            yield Run(self.client, run_id, self.wait)
        except BaseException as block_error:
            try:
                mlflow.end_run("FAILED" if isinstance(block_error, Exception) else "KILLED")
            except FAILURES as error:  # must not hide the error of the block
                logger.warning("run %s stays RUNNING at %s: %s", run_id, self.uri, failure_reason(error))
            raise
        mlflow.end_run()

    def find_run(self, run_id: str) -> mlflow.entities.Run | None:
        """Return the run, or None if it does not exist."""
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if to_job_error(error):
                raise
            return None

    def find_runs(self, experiment: str, condition: str) -> list[mlflow.entities.Run]:
        """Return the runs of an experiment that match an MLflow filter string, newest first.

        An experiment that does not exist has none, and is not created.
        """
        existing = find_experiment(self.client, experiment)
        if existing is None:
            return []
        return self.client.search_runs(
            [existing.experiment_id], condition, order_by=["attributes.start_time DESC"]
        )

    def all_runs(self, condition: str) -> list[mlflow.entities.Run]:
        """Return the runs of all experiments that match an MLflow filter string."""
        ids = [one.experiment_id for one in _all_pages(self.client.search_experiments)]
        return _all_pages(self.client.search_runs, ids, condition)

    def all_versions(self) -> list[ModelVersion]:
        """Return all versions of all models."""
        return _all_pages(self.client.search_model_versions)

    def _experiment_id(self, experiment: str) -> str:
        return experiment_id(self.client, experiment, self._new_location())

    def _new_location(self) -> str | None:
        """Artifact location of a new experiment; None: the default of the store."""
        if is_database(self._uri) and self._artifact_location:
            return _as_uri(self._artifact_location)
        return None

    def require_name(self, name: str) -> None:
        """Raise UserError for a name that MLflow would refuse after the training."""
        if not name.strip() or set(name) & set("/:@?#%"):
            raise UserError(
                f"--name: expected a model's name without / : @ ? # %, found {name!r}; choose another"
            )

    def resolve_run(self, uri: str) -> ModelVersion:
        """Resolve a model URI, or runs:/RUN_ID to the version that the run registered."""
        if not uri.startswith("runs:/"):
            return self.resolve(uri)
        run_id = uri.removeprefix("runs:/")
        versions = self.client.search_model_versions(f"run_id = '{run_id}'") if run_id.isalnum() else []
        if not versions:
            raise UserError(f"{uri}: no run at {self.uri} that registered a model; check its id")
        return versions[0]

    def resolve(self, model_uri: str) -> ModelVersion:
        """Resolve models:/NAME@ALIAS or models:/NAME/VERSION to a version."""
        name, separator, selector = model_uri.removeprefix("models:/").partition("@")
        if not separator:
            name, separator, selector = name.rpartition("/")
        if not (model_uri.startswith("models:/") and name and selector):
            raise UserError(
                f"--model-uri: expected models:/NAME@ALIAS or models:/NAME/VERSION, found {model_uri}"
            )
        try:
            if "@" in model_uri:
                return self.client.get_model_version_by_alias(name, selector)
            return self.client.get_model_version(name, selector)
        except MlflowException as error:
            if to_job_error(error):
                raise
            raise UserError(
                f"{model_uri}: no such model at {self.uri} ({error.message}); "
                "train and promote one, or check the name"
            ) from error

    def latest(self, name: str) -> ModelVersion:
        """Return the newest version of a model; raise UserError if there is none."""
        versions = self.client.search_model_versions(f"name = '{name}'") if "'" not in name else []
        if not versions:
            raise UserError(
                f"no version of a model {name} at {self.uri}; train one with train.py --name {name}"
            )
        return max(versions, key=lambda version: int(version.version))

    def log_verdict(self, version: ModelVersion, document: dict) -> None:
        """Log the gate's verdict to the run that trained a version, and as tags of the version."""
        if version.run_id:
            self.client.log_dict(version.run_id, document, "gate/verdict.json")
        tags = {"gate": "promoted" if document["promoted"] else "refused"}
        tags["gate.reasons"] = "; ".join(document["reasons"])[:5000]
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, str(version.version), key, value)

    def download_artifact(self, uri: str, folder: str) -> str:
        """Download an artifact, given as runs:/ID/PATH or models:/NAME/VERSION, and return its local path."""
        return mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=self._uri)

    def download(self, version: ModelVersion, folder: str) -> str:
        """Download a version's files below `folder` and return the path of the artifact folder in them."""
        uri = f"models:/{version.name}/{version.version}"
        try:
            path = self.download_artifact(uri, folder)
            return str(Path(path) / Model.load(path).flavors["python_function"]["data"])
        except (MlflowException, OSError, KeyError) as error:
            if to_job_error(error):
                raise
            raise UserError(
                f"{uri}: its files cannot be read from {self.uri}: {error}; register the model again"
            ) from error


def _all_pages(search: Callable[..., PagedList], *arguments: Any) -> list:
    """Return the results of all pages of a search."""
    page = search(*arguments)
    results = list(page)
    while page.token:
        page = search(*arguments, page_token=page.token)
        results += page
    return results


def _as_uri(location: str) -> str:
    return location if "://" in location else Path(location).absolute().as_uri()
