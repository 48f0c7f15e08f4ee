"""One training as an MLflow run: parameters, progress, metrics and the registered version."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.artifact.artifact import save_artifact
from deepfm.artifact.reference import build_reference
from deepfm.dataset.manifest import Manifest
from deepfm.experiments import model_card
from deepfm.experiments.result_plots import result_figures
from deepfm.experiments.slice_names import named_slices, require_categories
from deepfm.experiments.warm_start import TRAINING_STATE, started_from
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.launch.job_spec import OPTIMIZER, WEIGHTS, TrainJob, stage_prefix
from deepfm.launch.launch import launch
from deepfm.launch.progress import monitor_progress, read_step_metrics
from deepfm.settings.deployment import Profile, WorkerSettings
from deepfm.settings.model import ModelSettings
from deepfm.tracking.run import DatasetMetrics, Run
from deepfm.tracking.store import MlflowStore
from deepfm.training.profiler import NUM_STEPS_BEFORE, TABLE, TRACE
from deepfm.training.result import TrainingResult
from deepfm.weights import load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSite:
    """Resources that trainings run on, and where they are tracked."""

    spark: SparkSession | None  # None with num_workers 0
    num_workers: int
    workers: WorkerSettings
    store: MlflowStore
    experiment: str
    work_url: str  # reachable by the driver and every worker

    def train(
        self,
        job: TrainJob,
        on_epoch: Callable[[dict[str, float]], None],
        on_steps: Callable[[list[dict[str, float]]], None] = lambda points: None,
        *,
        num_retries: int = 0,
        poll_every_s: float = 1.0,
    ) -> TrainingResult:
        """Train a job on the workers, and pass its metrics on while it runs."""
        with monitor_progress(job.run_url, on_epoch, on_steps, poll_every_s):
            return launch(self.spark, job, self.num_workers, self.workers, num_retries=num_retries)

    @contextmanager
    def temporary_run_folder(self, run: Run) -> Iterator[str]:
        """Create the folder of a run for the block; nothing in it is needed afterwards."""
        run_url = f"{self.work_url}/{run.run_id}"
        storage.make_folder(run_url)
        try:
            yield run_url
        finally:
            storage.remove(run_url)

    def end_interrupted_children(self, parent_id: str) -> None:
        """Mark the RUNNING children of an interrupted run as KILLED and remove their folders."""
        condition = f"tags.mlflow.parentRunId = '{parent_id}' and attributes.status = 'RUNNING'"
        for child in self.store.find_runs(self.experiment, condition):
            self.store.client.set_terminated(child.info.run_id, "KILLED")
            storage.remove(f"{self.work_url}/{child.info.run_id}")


def run_parameters(
    settings: ModelSettings, manifest: Manifest, dataset_url: str, num_workers: int
) -> tuple[dict, dict]:
    """Return (parameters, manifest document) for Run.log_start."""
    dataset = dataset_parameters(manifest, dataset_url)
    document = {"digest": manifest.digest, **manifest.model_dump(mode="json")}
    return {**settings.model_dump(), "num_workers": num_workers, "dataset": dataset}, document


def dataset_parameters(manifest: Manifest, dataset_url: str) -> dict[str, Any]:
    """Parameters of a run that describe its dataset."""
    return {
        "url": dataset_url,
        "digest": manifest.digest,
        "vocabulary": manifest.vocabulary,
        **{f"rows_{split}": part.num_rows for split, part in manifest.splits.items()},
        "num_ids": sum(manifest.num_ids),
    }


def run_name(settings: ModelSettings, manifest: Manifest) -> str:
    """Name of a run in MLflow: the model and its training days."""
    days = manifest.input.days.get("train")
    return f"{settings.model}, {' to '.join(dict.fromkeys(days))}" if days else settings.model


def job_options(profile: Profile, fields: FieldSet) -> dict:
    """Options of a TrainJob from the profile.

    Raises UserError if a slice is not a category of the dataset.
    """
    promotion, workers = profile.promotion, profile.workers
    require_categories(promotion.slices, fields, "the dataset")
    return {
        "checkpoint_every_n_steps": workers.checkpoint_every_n_steps,
        "checkpoint_every_min": workers.checkpoint_every_min,
        "slice_fields": promotion.slices,
        "min_slice_rows": promotion.min_slice_rows,
    }


def _epoch_metrics(result: TrainingResult) -> list[dict[str, float]]:
    """Metrics of all epochs, as they should have been logged."""
    return [
        epoch.curves(stage_prefix(name) if name else "")
        for name, history in result.stages.items()
        for epoch in history.epochs
    ]


def _description(result: TrainingResult, manifest: Manifest) -> str:
    test, days = result.test, manifest.input.days.get("test")
    assert test is not None
    when = f" of {' to '.join(dict.fromkeys(days))}" if days else ""
    return (
        f"AUC {test.auc:.4f}, logloss {test.logloss:.4f} (predicting the CTR: {test.ctr_logloss:.4f}), "
        f"calibration {test.calibration:.3f} on {test.num_rows:,} test rows{when}."
    )


def _log_traces(run: Run, job: TrainJob) -> None:
    """Log the profiler traces of rank 0; warn if they were requested and it took too few steps."""
    prefixes = [*(stage_prefix(stage.model) for stage in job.model.earlier_stages()), ""]
    files = [f"{prefix}{file}" for prefix in prefixes for file in (TRACE, TABLE)]
    traces = [file for file in files if storage.exists(f"{job.run_url}/{file}")]
    for file in traces:
        run.log_bytes(storage.read_bytes(f"{job.run_url}/{file}"), f"profile/{file}")
    if job.profile_steps and TRACE not in traces:
        logger.warning(
            "--profile-steps %d: no step was profiled: the first %d steps never are, and there were no more",
            job.profile_steps,
            NUM_STEPS_BEFORE,
        )


def _dataset_metrics(result: TrainingResult, digest: str) -> list[DatasetMetrics]:
    """Metrics of the kept weights on validation and test rows, with the names they have in the run."""
    evaluated = []
    for split, metrics in (("valid", result.valid), ("test", result.test)):
        assert metrics is not None
        before = result.uncalibrated.get(split)
        values = {key: value for key, value in asdict(metrics).items() if value is not None}
        values["calibration"] = metrics.calibration
        named = {f"best_{split}_{key}": float(value) for key, value in values.items()}
        if before:
            keys = ("logloss", "ece", "calibration")
            named |= {f"uncalibrated_{split}_{key}": float(getattr(before, key)) for key in keys}
        evaluated.append(DatasetMetrics(split, digest, named))
    return evaluated


def register_result(
    run: Run, result: TrainingResult, job: TrainJob, manifest: Manifest, vocabulary: Vocabulary, name: str
) -> str:
    """Log the final metrics and register the kept weights as a version of `name`; returns the version.

    Registration is the last step: a job that fails before it leaves a FAILED run and no version.
    """
    run.wait()
    run.complete_curves(_epoch_metrics(result), read_step_metrics(job.run_url))
    finals = {
        "best_epoch": float(result.history.best),
        "num_weights": float(result.num_weights),
    }
    if result.best_epoch:
        finals["best_train_logloss"] = result.best_epoch.train_logloss
    for stage, history in result.stages.items():
        finals[f"{stage_prefix(stage) if stage else ''}training_seconds"] = history.seconds
    if result.not_calibrated_because:
        logger.warning("the probabilities are not calibrated: %s", result.not_calibrated_because)
    evaluated = _dataset_metrics(result, manifest.digest)
    for part in evaluated:
        finals |= part.metrics
    run.log_metrics(finals)
    _log_traces(run, job)
    plots = result_figures(result)
    for file, figure in plots.items():
        run.log_figure(figure, f"plots/{file}")
    slices = named_slices(result.test_slices, vocabulary, job.min_slice_rows)
    card = model_card.content(name, job.model, manifest, result, slices)
    run.log_text(model_card.markdown(card), "model_card.md")
    run.log_text(model_card.html(card, plots), "model_card.html")
    description = _description(result, manifest)
    run.describe(f"{description} See `model_card.html` in the artifacts.")
    weights = load_weights(f"{job.run_url}/{WEIGHTS}")
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/{job.model.model}"  # MLflow shows this name
        os.mkdir(folder)
        reference = build_reference(result, manifest.fields.names)
        save_artifact(
            f"file://{folder}",
            job.model,
            manifest,
            vocabulary,
            weights,
            reference,
            started_from(job),
            result.calibration,
        )
        tags = {"dataset": manifest.digest, "model": job.model.model}
        tags |= {key: f"{getattr(result.test, key):.6f}" for key in ("logloss", "auc")}
        if storage.exists(f"{job.run_url}/{OPTIMIZER}"):
            run.log_bytes(storage.read_bytes(f"{job.run_url}/{OPTIMIZER}"), f"{TRAINING_STATE}/{OPTIMIZER}")
        return run.register(folder, name, vocabulary, tags, description, evaluated)
