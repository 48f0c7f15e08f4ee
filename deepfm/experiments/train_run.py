"""A training in MLflow's terms: what its run says at the start, and the version it ends in."""

import logging
import os
import tempfile
from dataclasses import asdict

from deepfm import storage
from deepfm.artifact.artifact import save_artifact
from deepfm.artifact.reference import build_reference
from deepfm.dataset.manifest import Manifest
from deepfm.experiments import model_card
from deepfm.experiments.result_metrics import result_figures
from deepfm.experiments.slice_names import named_slices, require_categories
from deepfm.experiments.warm_start import TRAINING_STATE
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.launch.job_spec import FIRST_STAGE, OPTIMIZER, WEIGHTS, TrainJob
from deepfm.launch.progress import read_curve
from deepfm.settings.deployment import Profile
from deepfm.settings.model import ModelSettings
from deepfm.tracking.run import Run
from deepfm.training.profiler import NUM_STEPS_BEFORE, TABLE, TRACE
from deepfm.training.result import TrainingResult
from deepfm.weights import load_weights

logger = logging.getLogger(__name__)


def start_of_run(
    settings: ModelSettings, manifest: Manifest, dataset_url: str, num_workers: int
) -> tuple[dict, dict]:
    """(settings, manifest) for Run.log_start."""
    dataset = {"url": dataset_url, "digest": manifest.digest, "vocabulary": manifest.vocabulary}
    dataset |= {f"rows_{split}": part.num_rows for split, part in manifest.splits.items()}
    dataset["num_ids"] = sum(manifest.num_ids)
    document = {"digest": manifest.digest, **manifest.model_dump(mode="json")}
    return {**settings.model_dump(), "num_workers": num_workers, "dataset": dataset}, document


def name_of_run(settings: ModelSettings, manifest: Manifest) -> str:
    """By which people tell the runs of an experiment apart: the model and the days it learnt from."""
    days = manifest.input.days.get("train")
    return f"{settings.model}, {' to '.join(dict.fromkeys(days))}" if days else settings.model


def of_profile(profile: Profile, fields: FieldSet) -> dict:
    """What a TrainJob says of the profile; UserError for a slice that is no category of the dataset."""
    slices, workers = profile.promotion, profile.workers
    require_categories(slices.slices, fields, "the dataset")
    return {
        "checkpoint_every_n_steps": workers.checkpoint_every_n_steps,
        "checkpoint_every_min": workers.checkpoint_every_min,
        "slice_fields": slices.slices,
        "min_slice_rows": slices.min_slice_rows,
    }


def summary_of(result: TrainingResult) -> dict:
    """What a job says of a training."""
    gauc = {} if result.test.gauc is None else {"test_gauc": result.test.gauc}
    return {
        "epochs": len(result.history.epochs),
        "best_epoch": result.history.best,
        "train_logloss": result.best_epoch.train_logloss,
        "valid_logloss": result.valid.logloss,
        "valid_auc": result.valid.auc,
        "test_logloss": result.test.logloss,
        "test_auc": result.test.auc,
        "test_ctr_logloss": result.test.ctr_logloss,
        **gauc,
        "samples_per_s": round(result.samples_per_s),
        "sent_bytes_per_step": result.history.sent_bytes_per_step,
    }


def _curves(result: TrainingResult) -> list[dict[str, float]]:
    """All points that were to be logged after epochs."""
    first = result.first_stage.epochs if result.first_stage else []
    return [*(epoch.curves(FIRST_STAGE) for epoch in first), *(e.curves() for e in result.history.epochs)]


def _description(result: TrainingResult, manifest: Manifest) -> str:
    test, days = result.test, manifest.input.days.get("test")
    when = f" of {' to '.join(dict.fromkeys(days))}" if days else ""
    return (
        f"AUC {test.auc:.4f}, logloss {test.logloss:.4f} (always the CTR: {test.ctr_logloss:.4f}), "
        f"calibration {test.calibration:.3f} on {test.num_rows:,} test rows{when}."
    )


def _log_traces(run: Run, job: TrainJob) -> None:
    """The traces that rank 0 left; a warning where they were asked for and it took too few steps."""
    files = [f"{stage}{file}" for stage in (FIRST_STAGE, "") for file in (TRACE, TABLE)]
    found = [file for file in files if storage.exists(f"{job.run_url}/{file}")]
    for file in found:
        run.log_bytes(storage.read_bytes(f"{job.run_url}/{file}"), f"profile/{file}")
    if job.profile_steps and TRACE not in found:
        logger.warning(
            "--profile-steps %d: no step was traced: the first %d never are, and there were no more",
            job.profile_steps,
            NUM_STEPS_BEFORE,
        )


def register_result(
    run: Run, result: TrainingResult, job: TrainJob, manifest: Manifest, vocabulary: Vocabulary, name: str
) -> str:
    """Log the final metrics, then make the best epoch's weights a version of `name` -> the version.

    The registration comes last: a job that fails before it leaves a FAILED run and no version.
    """
    run.wait()
    run.complete_curves(_curves(result), read_curve(job.run_url))
    finals = {
        "best_epoch": float(result.history.best),
        "best_train_logloss": result.best_epoch.train_logloss,
        "num_weights": float(result.num_weights),
    }
    for split, metrics in (("valid", result.valid), ("test", result.test)):
        known = {key: value for key, value in asdict(metrics).items() if value is not None}
        finals |= {f"best_{split}_{key}": float(value) for key, value in known.items()}
        finals[f"best_{split}_calibration"] = metrics.calibration
    run.log_metrics(finals)
    _log_traces(run, job)
    drawn = result_figures(result)
    for file, figure in drawn.items():
        run.log_figure(figure, f"plots/{file}")
    slices = named_slices(result.test_slices, vocabulary, job.min_slice_rows)
    card = model_card.content(name, job.model, manifest, result, slices)
    run.log_text(model_card.markdown(card), "model_card.md")
    run.log_text(model_card.html(card, drawn), "model_card.html")
    description = _description(result, manifest)
    run.describe(f"{description} `model_card.html` among the artifacts says more.")
    weights = load_weights(f"{job.run_url}/{WEIGHTS}")
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/{job.model.model}"  # its name is seen in MLflow
        os.mkdir(folder)
        reference = build_reference(result, manifest.fields.names)
        save_artifact(f"file://{folder}", job.model, manifest, vocabulary, weights, reference)
        tags = {"dataset": manifest.digest, "model": job.model.model}
        tags |= {key: f"{getattr(result.test, key):.6f}" for key in ("logloss", "auc")}
        if storage.exists(f"{job.run_url}/{OPTIMIZER}"):
            run.log_bytes(storage.read_bytes(f"{job.run_url}/{OPTIMIZER}"), f"{TRAINING_STATE}/{OPTIMIZER}")
        return run.register(folder, name, vocabulary, tags, description)
