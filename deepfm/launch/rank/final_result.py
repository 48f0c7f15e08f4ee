"""Evaluation and calibration of a trained model on validation and test rows."""

from collections.abc import Mapping

from torch import nn

from deepfm.launch.factory import gauc_groups
from deepfm.launch.rank.worker import Worker
from deepfm.metrics.calibration import Calibration, fit_calibration
from deepfm.metrics.field_counts import FieldValueCounts
from deepfm.metrics.slices import DetailedCounts, SliceAccumulator
from deepfm.training.evaluation import Evaluation, evaluate_rows
from deepfm.training.result import TrainingResult
from deepfm.training.state import TrainingHistory


def final_result(
    worker: Worker, model: nn.Module, history: TrainingHistory, earlier: Mapping[str, TrainingHistory]
) -> TrainingResult:
    """Evaluate the finished model; for a training stopped early, return the metrics of its best epoch.

    `earlier`: stages before the last, by model.
    """
    num_weights = sum(weight.numel() for weight in model.parameters())
    stages = dict(earlier)
    if history.stopped:
        valid = history.best_valid
        assert valid is not None
        return TrainingResult(history, valid, None, num_weights, stages)
    fields = worker.manifest.fields
    weighted = worker.manifest.data.weight_column is not None
    counts = FieldValueCounts(fields, worker.device, weighted=weighted)
    slices = SliceAccumulator(fields, worker.job.slice_fields, worker.device, weighted=weighted)
    before = _evaluate(worker, model, "valid")
    calibration, reason = _fit_calibration(worker, before)
    valid_rows = _evaluate(worker, model, "valid", calibration) if calibration else before
    test_rows = _evaluate(worker, model, "test", calibration, DetailedCounts(counts, slices))
    splits = {"valid": valid_rows, "test": test_rows}
    return TrainingResult(
        history,
        valid_rows.compute(),
        test_rows.compute(),
        num_weights,
        stages,
        test_rows.metrics.score_counts(),
        counts.counts.tolist(),
        slices.compute(),
        calibration,
        reason,
        {name: e.uncalibrated.compute(e.gauc) for name, e in splits.items() if e.uncalibrated},
    )


def _evaluate(
    worker: Worker,
    model: nn.Module,
    split: str,
    calibration: Calibration | None = None,
    details: DetailedCounts | None = None,
) -> Evaluation:
    rows = worker.read(worker.job.model, split)
    groups = gauc_groups(worker.job.model, worker.manifest.fields)
    return evaluate_rows(
        model, worker.collectives, rows, worker.logit_correction, groups, details, calibration
    )


def _fit_calibration(worker: Worker, evaluation: Evaluation) -> tuple[Calibration | None, str]:
    """Fit the calibration to evaluated validation rows; the reason if it cannot be fitted."""
    method = worker.job.model.calibration
    if method == "none":
        return None, ""
    fitted = fit_calibration(evaluation.metrics.counts, method)
    return (None, fitted) if isinstance(fitted, str) else (fitted, "")
