"""One MLflow run: what a training says of itself, its curves and the model it registers."""

import logging
import subprocess
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array
from mlflow.utils.time import get_current_time_millis

import deepfm
from deepfm.features.vocabulary import Vocabulary
from deepfm.registry.pyfunc import example_rows

_VERSIONS_THAT_MATTER = ("torch", "horovod", "petastorm", "pyspark", "pyarrow", "mlflow")
#: What a process that serves the registered model must have; the package itself travels with the model.
_SERVING_REQUIREMENTS = ("torch", "pyarrow", "numpy", "pandas", "pydantic", "safetensors", "fsspec", "PyYAML")

logger = logging.getLogger(__name__)


class Run:
    """An open run. Only the driver speaks to MLflow, so N workers make one run and need no credentials."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str):
        self.run_id = run_id
        self._client = client

    def log_start(self, settings: dict, manifest: dict) -> None:
        """What is known before training: flattened settings, the dataset's manifest, code and environment."""
        mlflow.log_params(flattened(settings))
        _log_inputs(settings["dataset"])
        mlflow.log_dict(manifest, "dataset_manifest.json")
        mlflow.set_tags({"git_commit": code_version(), "deepfm": deepfm.__version__})
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
        mlflow.log_metrics(metrics, run_id=self.run_id)

    def set_tag(self, name: str, value: str) -> None:
        """Of this run."""
        self._client.set_tag(self.run_id, name, value)

    def log_text(self, text: str, file: str) -> None:
        """A text as a file of this run."""
        self._client.log_text(self.run_id, text, file)

    def log_bytes(self, content: bytes, file: str) -> None:
        """A file of this run."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(file).name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path), str(Path(file).parent))

    def log_figure(self, figure, file: str) -> None:
        """A matplotlib figure as a picture of this run."""
        self._client.log_figure(self.run_id, figure, file)

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
        self._client.set_registered_model_alias(name, "candidate", version)
        return version


def _log_inputs(dataset: dict) -> None:
    """The dataset's parts, as MLflow's page shows and searches inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a path has several readers
        source = resolve_dataset_source(dataset["url"])
    for part, context in (("train", "training"), ("valid", "validation"), ("test", "test")):
        mlflow.log_input(MetaDataset(source, name=part, digest=dataset["digest"]), context=context)


def flattened(settings: dict, prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} -> {"a.b": "1"}."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _signature(vocabulary: Vocabulary) -> ModelSignature:
    # Numbers are of any type: pandas holds integers with gaps as floats and others as integers, and MLflow
    # refuses the ones for a long and the others for a double. The model itself checks them.
    kinds = {
        "count": AnyType(),
        "category": DataType.string,
        "list": DataType.string,
        "value": AnyType(),
        "quantile": AnyType(),
        "time": AnyType(),
    }
    types = {
        field.column: Array(DataType.string) if field.is_array else kinds[field.kind]
        for field in vocabulary.fields.raw
    }
    columns = [ColSpec(kind, name) for name, kind in types.items()]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))


def _version(package: str) -> str:
    try:
        # A local part such as +cpu names a build that only some package index has.
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"


def code_version() -> str:
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
