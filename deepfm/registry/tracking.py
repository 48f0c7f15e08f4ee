"""MLflow: the one run of a training, its curves and its registered model; versions and their files."""

import http.client
import logging
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.entities import LifecycleStage, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType
from mlflow.utils.time import get_current_time_millis
from sqlalchemy.exc import SQLAlchemyError

import deepfm
from deepfm.errors import UserError
from deepfm.features.vocabulary import Vocabulary
from deepfm.registry.pyfunc import example_rows

_VERSIONS_THAT_MATTER = ("torch", "horovod", "petastorm", "pyspark", "pyarrow", "mlflow")
#: What a process that serves the registered model must have; the package itself travels with the model.
_SERVING_REQUIREMENTS = ("torch", "pyarrow", "numpy", "pandas", "pydantic", "safetensors", "fsspec", "PyYAML")

logger = logging.getLogger(__name__)


class Store:
    """One MLflow tracking store with its model registry; UserError where it cannot be reached."""

    def __init__(self, uri: str, artifact_location: str | None = None):
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
    def run(self, experiment: str) -> Iterator["Run"]:
        """A new run of an experiment, which is made if it is new; FAILED where the block raises."""
        found = self.client.get_experiment_by_name(experiment)
        if found and found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UserError(
                f"experiment {experiment} was deleted at {self.uri}; restore it, or give another --experiment"
            )
        experiment_id = found.experiment_id if found else self._new_experiment(experiment)
        with mlflow.start_run(experiment_id=experiment_id, log_system_metrics=False) as active:
            yield Run(self, active.info.run_id)

    def _new_experiment(self, name: str) -> str:
        local = self.uri.startswith("sqlite:") and self._artifact_location
        location = Path(self._artifact_location).absolute().as_uri() if local else None
        return self.client.create_experiment(name, artifact_location=location)

    def require_name(self, name: str) -> None:
        """UserError for a name that no registered model can have: better now than after the training."""
        if not name.strip() or set(name) & set("/:@"):
            raise UserError(f"--name: expected a model's name without / : @, found {name!r}; choose another")

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


class Run:
    """An open run. Only the driver speaks to MLflow, so N workers make one run and need no credentials."""

    def __init__(self, store: Store, run_id: str):
        self.run_id = run_id
        self._client = store.client

    def log_start(self, settings: dict, manifest: dict) -> None:
        """What is known before training: flattened settings, the dataset's manifest, code and environment."""
        mlflow.log_params(flattened(settings))
        mlflow.log_dict(manifest, "dataset_manifest.json")
        mlflow.set_tags({"git_commit": _git_commit(), "deepfm": deepfm.__version__})
        mlflow.set_tags({f"version.{name}": _version(name) for name in _VERSIONS_THAT_MATTER})
        packages = sorted({f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()})
        mlflow.log_text("\n".join(packages) + "\n", "environment.txt")

    def log_epoch(self, metrics: dict[str, float]) -> None:
        """A point of each curve at step metrics["epoch"]; from any thread; never stops a training."""
        now = get_current_time_millis()
        points = [
            Metric(name, value, now, int(metrics["epoch"]))
            for name, value in metrics.items()
            if name != "epoch"
        ]
        try:
            self._client.log_batch(self.run_id, metrics=points)
        except MlflowException as error:
            logger.warning("epoch %s is not in MLflow: %s", metrics["epoch"], error)

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Figures of the finished model."""
        mlflow.log_metrics(metrics)

    def register(self, folder: str, name: str, vocabulary: Vocabulary, tags: dict[str, str]) -> str:
        """Log the model folder with a pyfunc flavour over raw columns and make it a version of `name`."""
        logged = mlflow.pyfunc.log_model(
            name="model",
            loader_module="deepfm.registry.pyfunc",
            data_path=folder,
            code_paths=[str(Path(deepfm.__file__).parent)],
            signature=_signature(vocabulary),
            input_example=example_rows(vocabulary),
            pip_requirements=[f"{package}=={_version(package)}" for package in _SERVING_REQUIREMENTS],
            registered_model_name=name,
        )
        version = str(logged.registered_model_version)
        for key, value in tags.items():
            self._client.set_model_version_tag(name, version, key, value)
        return version


def flattened(settings: dict, prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} -> {"a.b": "1"}."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


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


def _signature(vocabulary: Vocabulary) -> ModelSignature:
    # Counts are of any type: pandas holds integers with gaps as floats and others as integers, and MLflow
    # refuses the ones for a long and the others for a double. The model itself checks them.
    kinds = {"count": AnyType(), "category": DataType.string}
    columns = [ColSpec(kinds[field.kind], field.name) for field in vocabulary.fields]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))


def _version(package: str) -> str:
    try:
        # A local part such as +cpu names a build that only some package index has.
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"


def _git_commit() -> str:
    """This package's commit, "-dirty" where files differ from it, "unknown" outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(deepfm.__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",  # a tag in place of the commit
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
