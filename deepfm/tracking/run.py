"""One MLflow run: what a training says of itself, its curves and the model it registers."""

import subprocess
import tempfile
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

import deepfm
from deepfm.artifact.pyfunc import example_rows
from deepfm.artifact.signature import signature_of
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.tracking.metric_buffer import MetricBuffer

#: What a process that serves the registered model must have; the package itself travels with the model.
_SERVING_REQUIREMENTS = ("torch", "pyarrow", "numpy", "pandas", "pydantic", "safetensors", "fsspec", "PyYAML")
#: What MLflow's page says of a registered model.
_OF_ALL_VERSIONS = (
    "Probabilities that an impression is clicked, from the raw columns of its click log. `champion` scores "
    "the nights, `previous` did before it, `candidate` was trained last. The tags `promotion.…` are the "
    "history of the gate, which `promote.py --history` shows."
)


class Run:
    """An open run. Only the driver speaks to MLflow, so N workers make one run and need no credentials."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str, wait: Callable[[], None] = lambda: None):
        """`wait`: returns when the store can be used."""
        self.run_id, self.wait = run_id, wait
        self._client = client
        self._curves = MetricBuffer(client, run_id)

    def log_start(self, settings: dict, manifest: dict) -> None:
        """What is known before training: flattened settings, the dataset's manifest, code and environment."""
        mlflow.log_params(flattened(settings))
        _log_inputs(settings["dataset"])
        mlflow.log_dict(manifest, "dataset_manifest.json")
        mlflow.set_tags({"git_commit": code_version(), "deepfm": deepfm.__version__})
        packages = sorted({f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()})
        mlflow.log_text("\n".join(packages) + "\n", "environment.txt")

    def log_epoch(self, metrics: dict[str, float]) -> None:
        """A point of each curve at step metrics["epoch"]; from any thread; never stops a training."""
        self._curves.add("epoch", [metrics])

    def log_steps(self, points: list[dict[str, float]]) -> None:
        """Points of the curves within epochs, each at its "step"; as `log_epoch`."""
        self._curves.add("step", points)

    def complete_curves(self, epochs: list[dict[str, float]], points: list[dict[str, float]]) -> None:
        """Log what of all points the store does not have: it may have been away for a while."""
        self._curves.complete("epoch", epochs)
        self._curves.complete("step", points)

    def describe(self, text: str) -> None:
        """What MLflow's page shows above the run, in Markdown."""
        self.set_tag(MLFLOW_RUN_NOTE, text)

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

    def register(
        self, folder: str, name: str, vocabulary: Vocabulary, tags: dict[str, str], description: str = ""
    ) -> str:
        """Log the model folder with a pyfunc flavour over raw columns and make it a version of `name`."""
        logged = mlflow.pyfunc.log_model(
            name="model",
            loader_module="deepfm.artifact.pyfunc",
            data_path=folder,
            code_paths=[str(Path(deepfm.__file__).parent)],
            signature=signature_of(vocabulary),
            input_example=example_rows(vocabulary),
            pip_requirements=[f"{package}=={_version(package)}" for package in _SERVING_REQUIREMENTS],
            registered_model_name=name,
        )
        version = str(logged.registered_model_version)
        for key, value in tags.items():
            self._client.set_model_version_tag(name, version, key, value)
        self._client.update_model_version(name, version, description)
        if not self._client.get_registered_model(name).description:  # a user's own stays
            self._client.update_registered_model(name, _OF_ALL_VERSIONS)
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


def _version(package: str) -> str:
    try:
        # A local part such as +cpu names a build that only some package index has.
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"


def code_version() -> str:
    """This package's commit, "-dirty" where files differ from it, "unknown" outside a checkout of it."""
    package = Path(deepfm.__file__).parent

    def git(*command: str) -> str:
        words = ["git", "-C", str(package), *command]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # Installed somewhere below another project's checkout it has no commit.
        if Path(git("rev-parse", "--show-toplevel")) != package.resolve().parent:
            return "unknown"
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")  # no tag for the commit
    except (OSError, subprocess.SubprocessError):
        return "unknown"
