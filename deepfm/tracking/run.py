"""An MLflow run: settings, metric curves and the registered model of a training."""

import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

import deepfm
from deepfm.artifact.pyfunc import example_rows
from deepfm.artifact.signature import build_signature
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.tracking.code_version import code_version
from deepfm.tracking.errors import FAILURES, failure_reason
from deepfm.tracking.metric_buffer import MetricBuffer

logger = logging.getLogger(__name__)

#: Requirements of a process that serves a registered model; deepfm itself is logged with the model.
_SERVING_REQUIREMENTS = ("torch", "pyarrow", "numpy", "pandas", "pydantic", "safetensors", "fsspec", "PyYAML")
#: Description of a registered model on its MLflow page.
_MODEL_DESCRIPTION = (
    "Probabilities that an impression is clicked, from the raw columns of its click log. `champion` scores "
    "new days, `previous` was champion before it, `candidate` was trained last. The tags `promotion.…` are "
    "the history of the champion, which `promote.py --history` shows."
)


@dataclass(frozen=True)
class DatasetMetrics:
    """Metrics of a model on one dataset."""

    dataset: str  # name, such as test
    digest: str
    metrics: dict[str, float]


class Run:
    """An open run. Only the driver calls MLflow, so N workers make one run and need no credentials."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str, wait: Callable[[], None] = lambda: None):
        """`wait`: blocks until the store is reachable."""
        self.run_id, self.wait = run_id, wait
        self._client = client
        self._curves = MetricBuffer(client, run_id)

    def log_start(self, settings: dict, manifest: dict) -> None:
        """Log what is known before training: settings, dataset manifest, code version and environment."""
        self.log_parameters(settings)
        _log_inputs(settings["dataset"])
        mlflow.log_dict(manifest, "dataset_manifest.json")
        mlflow.set_tags({"git_commit": code_version(), "deepfm": deepfm.__version__})
        packages = sorted({f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()})
        mlflow.log_text("\n".join(packages) + "\n", "environment.txt")

    def log_parameters(self, settings: dict) -> None:
        """Log nested settings as the parameters of this run."""
        for key, value in flattened(settings).items():
            self._client.log_param(self.run_id, key, value)

    def log_epoch(self, metrics: dict[str, float]) -> None:
        """Log a point of each curve at step metrics["epoch"]; thread-safe, raises no MLflow error."""
        self._curves.add("epoch", [metrics])

    def log_steps(self, points: list[dict[str, float]]) -> None:
        """Log points of the curves within epochs, each at its "step"; see `log_epoch`."""
        self._curves.add("step", points)

    def complete_curves(self, epochs: list[dict[str, float]], points: list[dict[str, float]]) -> None:
        """Log the points that the store does not have because it was unreachable."""
        self._curves.complete("epoch", epochs)
        self._curves.complete("step", points)

    def describe(self, text: str) -> None:
        """Set the description of the run on its MLflow page, in Markdown."""
        self.set_tag(MLFLOW_RUN_NOTE, text)

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Log the metrics of the finished model."""
        mlflow.log_metrics(metrics, run_id=self.run_id)

    def log_model_metrics(self, model_id: str | None, evaluated: Sequence[DatasetMetrics]) -> None:
        """Log metrics to this run and to the logged model, whose page shows them by dataset.

        A failure is logged as a warning: a model of MLflow 2 (`model_id` None) has no such page, and a server
        may refuse it. Metrics that are NaN or infinite are left out, because MLflow would store 0.
        """
        now_ms = int(time.time() * 1000)
        metrics = [
            Metric(key, value, now_ms, 0, model_id, part.dataset, part.digest, self.run_id)
            for part in evaluated
            for key, value in part.metrics.items()
            if math.isfinite(value)
        ]
        if model_id is None or not metrics:
            return
        try:
            self._client.log_batch(self.run_id, metrics)
        except FAILURES as error:
            logger.warning("metrics are not on the page of model %s: %s", model_id, failure_reason(error))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of this run."""
        self._client.set_tag(self.run_id, name, value)

    def has_tag(self, name: str) -> bool:
        """Whether this run has a tag."""
        return name in self._client.get_run(self.run_id).data.tags

    def log_text(self, text: str, file: str) -> None:
        """Log a text as an artifact file."""
        self._client.log_text(self.run_id, text, file)

    def log_bytes(self, content: bytes, file: str) -> None:
        """Log bytes as an artifact file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(file).name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path), str(Path(file).parent))

    def log_figure(self, figure, file: str) -> None:
        """Log a matplotlib figure as an artifact image."""
        self._client.log_figure(self.run_id, figure, file)

    def register(
        self,
        folder: str,
        name: str,
        vocabulary: Vocabulary,
        tags: dict[str, str],
        description: str = "",
        evaluated: Sequence[DatasetMetrics] = (),
    ) -> str:
        """Log the model folder with a pyfunc flavour over raw columns and make it a version of `name`."""
        logged = mlflow.pyfunc.log_model(
            name="model",
            loader_module="deepfm.artifact.pyfunc",
            data_path=folder,
            code_paths=[str(Path(deepfm.__file__).parent)],
            signature=build_signature(vocabulary),
            input_example=example_rows(vocabulary),
            pip_requirements=[f"{package}=={_version(package)}" for package in _SERVING_REQUIREMENTS],
            registered_model_name=name,
        )
        version = str(logged.registered_model_version)
        for key, value in tags.items():
            self._client.set_model_version_tag(name, version, key, value)
        self._client.update_model_version(name, version, description)
        if not self._client.get_registered_model(name).description:  # keep a description that a user wrote
            self._client.update_registered_model(name, _MODEL_DESCRIPTION)
        self._client.set_registered_model_alias(name, "candidate", version)
        self.log_model_metrics(logged.model_id, evaluated)
        return version


def logged_model_id(version: ModelVersion) -> str | None:
    """Return the id of the logged model that a version was made of; None if MLflow 2 registered it."""
    # A SQL store leaves model_id empty, but the source is models:/MODEL_ID.
    source = str(version.source or "")
    return version.model_id or (source.removeprefix("models:/") if source.startswith("models:/m-") else None)


def _log_inputs(dataset: dict) -> None:
    """Log train, valid and test as the run's input datasets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a path matches several dataset sources
        source = resolve_dataset_source(dataset["url"])
    for part, context in (("train", "training"), ("valid", "validation"), ("test", "test")):
        meta = MetaDataset(source, name=part, digest=dataset["digest"])  # type: ignore[abstract] # not an ABC
        mlflow.log_input(meta, context=context)


def flattened(settings: dict, prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} -> {"a.b": "1"}."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _version(package: str) -> str:
    try:
        # A local version such as +cpu exists on some package indexes only.
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"
