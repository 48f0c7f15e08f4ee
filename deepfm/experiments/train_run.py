"""A training in MLflow's terms: what its run says at the start, and the version it ends in."""

import logging
import os
import tempfile
from dataclasses import asdict

from deepfm import storage
from deepfm.artifact.artifact import save_artifact
from deepfm.artifact.reference import reference_of
from deepfm.dataset.manifest import Manifest
from deepfm.experiments import model_card
from deepfm.experiments.result_metrics import figures
from deepfm.experiments.slice_names import named_slices, require_categories
from deepfm.experiments.warm_start import TRAINING_STATE
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.launch.job_spec import FIRST_STAGE, OPTIMIZER, WEIGHTS, WorkOrder
from deepfm.launch.progress import read_curve
from deepfm.settings.deployment import Profile
from deepfm.settings.model import ModelSettings
from deepfm.tracking.run import Run
from deepfm.training.checkpoint import load_weights
from deepfm.training.profiler import NUM_STEPS_BEFORE, TABLE, TRACE
from deepfm.training.result import Outcome

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
    """What a WorkOrder says of the profile; UserError for a slice that is no category of the dataset."""
    slices, workers = profile.promotion, profile.workers
    require_categories(slices.slices, fields, "the dataset")
    return {
        "checkpoint_every_n_steps": workers.checkpoint_every_n_steps,
        "checkpoint_every_min": workers.checkpoint_every_min,
        "slice_fields": slices.slices,
        "min_slice_rows": slices.min_slice_rows,
    }


def summary_of(outcome: Outcome) -> dict:
    """What a job says of a training."""
    gauc = {} if outcome.test.gauc is None else {"test_gauc": outcome.test.gauc}
    return {
        "epochs": len(outcome.training.epochs),
        "best_epoch": outcome.training.best,
        "train_logloss": outcome.best_epoch.train_logloss,
        "valid_logloss": outcome.valid.logloss,
        "valid_auc": outcome.valid.auc,
        "test_logloss": outcome.test.logloss,
        "test_auc": outcome.test.auc,
        "test_ctr_logloss": outcome.test.ctr_logloss,
        **gauc,
        "samples_per_s": round(outcome.samples_per_s),
        "sent_bytes_per_step": outcome.training.sent_bytes_per_step,
    }


def _curves(outcome: Outcome) -> list[dict[str, float]]:
    """All points that were to be logged after epochs."""
    first = outcome.first_stage.epochs if outcome.first_stage else []
    return [*(epoch.curves(FIRST_STAGE) for epoch in first), *(e.curves() for e in outcome.training.epochs)]


def _description(outcome: Outcome, manifest: Manifest) -> str:
    test, days = outcome.test, manifest.input.days.get("test")
    when = f" of {' to '.join(dict.fromkeys(days))}" if days else ""
    return (
        f"AUC {test.auc:.4f}, logloss {test.logloss:.4f} (always the CTR: {test.ctr_logloss:.4f}), "
        f"calibration {test.calibration:.3f} on {test.num_rows:,} test rows{when}."
    )


def _log_traces(run: Run, order: WorkOrder) -> None:
    """The traces that rank 0 left; a warning where they were asked for and it took too few steps."""
    files = [f"{stage}{file}" for stage in (FIRST_STAGE, "") for file in (TRACE, TABLE)]
    found = [file for file in files if storage.exists(f"{order.run_url}/{file}")]
    for file in found:
        run.log_bytes(storage.read_bytes(f"{order.run_url}/{file}"), f"profile/{file}")
    if order.profile_steps and TRACE not in found:
        logger.warning(
            "--profile-steps %d: no step was traced: the first %d never are, and there were no more",
            order.profile_steps,
            NUM_STEPS_BEFORE,
        )


def register_outcome(
    run: Run, outcome: Outcome, order: WorkOrder, manifest: Manifest, vocabulary: Vocabulary, name: str
) -> str:
    """Log the final metrics, then make the best epoch's weights a version of `name` -> the version.

    The registration comes last: a job that fails before it leaves a FAILED run and no version.
    """
    run.wait()
    run.complete_curves(_curves(outcome), read_curve(order.run_url))
    finals = {
        "best_epoch": float(outcome.training.best),
        "best_train_logloss": outcome.best_epoch.train_logloss,
        "num_weights": float(outcome.num_weights),
    }
    for split, metrics in (("valid", outcome.valid), ("test", outcome.test)):
        known = {key: value for key, value in asdict(metrics).items() if value is not None}
        finals |= {f"best_{split}_{key}": float(value) for key, value in known.items()}
        finals[f"best_{split}_calibration"] = metrics.calibration
    run.log_metrics(finals)
    _log_traces(run, order)
    drawn = figures(outcome)
    for file, figure in drawn.items():
        run.log_figure(figure, f"plots/{file}")
    slices = named_slices(outcome.test_slices, vocabulary, order.min_slice_rows)
    card = model_card.content(name, order.model, manifest, outcome, slices)
    run.log_text(model_card.markdown(card), "model_card.md")
    run.log_text(model_card.html(card, drawn), "model_card.html")
    description = _description(outcome, manifest)
    run.describe(f"{description} `model_card.html` among the artifacts says more.")
    weights = load_weights(f"{order.run_url}/{WEIGHTS}")
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/{order.model.model}"  # its name is seen in MLflow
        os.mkdir(folder)
        reference = reference_of(outcome, manifest.fields.names)
        save_artifact(f"file://{folder}", order.model, manifest, vocabulary, weights, reference)
        tags = {"dataset": manifest.digest, "model": order.model.model}
        tags |= {key: f"{getattr(outcome.test, key):.6f}" for key in ("logloss", "auc")}
        if storage.exists(f"{order.run_url}/{OPTIMIZER}"):
            run.log_bytes(storage.read_bytes(f"{order.run_url}/{OPTIMIZER}"), f"{TRAINING_STATE}/{OPTIMIZER}")
        return run.register(folder, name, vocabulary, tags, description)
