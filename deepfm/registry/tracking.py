"""MLflow's store: its experiments and runs, its registered models, their versions and files."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import LifecycleStage
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from sqlalchemy.exc import SQLAlchemyError

from deepfm.errors import UserError
from deepfm.registry.quiet import quieten_mlflow
from deepfm.registry.run import Run


class Store:
    """One MLflow tracking store with its model registry; UserError where it cannot be reached."""

    def __init__(self, uri: str, artifact_location: str | None = None):
        quieten_mlflow()
        _check_reachable(uri)
        self.uri = uri
        self._artifact_location = artifact_location
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        try:
            self.client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError) as error:
            raise UserError(f"{uri}: MLflow cannot use it: {error}; choose another --tracking-uri") from error

    @contextmanager
    def run(
        self,
        experiment: str,
        *,
        name: str | None = None,
        tags: dict[str, str] | None = None,
        nested: bool = False,
    ) -> Iterator[Run]:
        """A new run of an experiment, which is made if it is new; FAILED where the block raises.

        With nested=True it is a child of the run that is open.
        """
        experiment_id = self._experiment_id(experiment)
        with mlflow.start_run(
            experiment_id=experiment_id, run_name=name, tags=tags, nested=nested, log_system_metrics=False
        ) as active:
            yield Run(self.client, active.info.run_id)

    @contextmanager
    def resumed(self, run_id: str) -> Iterator[Run]:
        """A run that was left unfinished, open again."""
        with mlflow.start_run(run_id=run_id, log_system_metrics=False):
            yield Run(self.client, run_id)

    def find_run(self, run_id: str) -> mlflow.entities.Run | None:
        """The run; None where there is none."""
        try:
            return self.client.get_run(run_id)
        except MlflowException:
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
        location = Path(self._artifact_location).absolute().as_uri() if local else None
        return self.client.create_experiment(name, artifact_location=location)

    def require_name(self, name: str) -> None:
        """UserError for a name that no registered model can have: better now than after the training."""
        if not name.strip() or set(name) & set("/:@"):
            raise UserError(f"--name: expected a model's name without / : @, found {name!r}; choose another")

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

    def download(self, version: ModelVersion, folder: str) -> str:
        """Copy a version's files under `folder` -> the path of our model folder in them."""
        uri = f"models:/{version.name}/{version.version}"
        try:
            path = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=self.uri)
            return str(Path(path) / Model.load(path).flavors["python_function"]["data"])
        except (MlflowException, OSError, KeyError) as error:
            raise UserError(
                f"{uri}: its files cannot be read from {self.uri}: {error}; register it again"
            ) from error


def _check_reachable(uri: str) -> None:
    if uri.startswith("sqlite:///"):
        try:
            Path(uri.removeprefix("sqlite:///")).absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{uri}: its folder cannot be made: {error}; choose another --tracking-uri"
            ) from error
        return
    if not uri.startswith(("http://", "https://")):
        raise UserError(f"tracking URI {uri}: expected sqlite:///FILE or http(s)://SERVER")
    try:
        # MLflow itself would try for minutes before it says so.
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise UserError(f"{uri}: the MLflow server answers {error}; look at its log") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(
            f"{uri}: no MLflow server answers there ({error}); "
            "start one with `mlflow server`, or check --tracking-uri"
        ) from error
