"""Summary of a training for the output of a job: metrics, stages, and numbers of workers."""

from typing import Any

from deepfm.training.result import TrainingResult


def result_summary(result: TrainingResult) -> dict:
    """Summary of a training for the output of a job."""
    assert result.valid is not None and result.test is not None
    gauc = {} if result.test.gauc is None else {"test_gauc": result.test.gauc}
    return {
        "epochs": len(result.history.epochs),
        "best_epoch": result.history.best,
        "train_logloss": result.best_epoch and result.best_epoch.train_logloss,
        "stages": _stages_summary(result),
        "valid_logloss": result.valid.logloss,
        "valid_auc": result.valid.auc,
        "test_logloss": result.test.logloss,
        "test_auc": result.test.auc,
        "test_ctr_logloss": result.test.ctr_logloss,
        "test_calibration": result.test.calibration,
        "calibrated": result.calibration is not None,
        **gauc,
        "samples_per_s": round(result.samples_per_s),
        "sent_bytes_per_step": result.history.sent_bytes_per_step,
    }


def _stages_summary(result: TrainingResult) -> list[dict]:
    """Epochs, quality and time of each stage; one without a better epoch than its start has best_epoch 0."""
    return [
        {
            "stage": name or "last",
            "epochs": len(history.epochs),
            "best_epoch": history.best,
            "valid_logloss": history.best_valid and history.best_valid.logloss,
            "seconds": round(history.seconds, 2),
        }
        for name, history in result.stages.items()
    ]


def workers_summary(result: TrainingResult, num_workers: int) -> dict:
    """Numbers of workers for the output of a job; `num_workers`: of the job, if it trained the result.

    `resumed_with` is only present if other numbers of workers trained parts of it.
    """
    last = (result.history.num_ranks or [max(num_workers, 1)])[-1]
    summary: dict[str, Any] = {"num_workers": num_workers if last == max(num_workers, 1) else last}
    numbers = [number for history in result.stages.values() for number in history.num_ranks]
    others = [number for number in dict.fromkeys(numbers) if number != last]
    if others:
        summary["resumed_with"] = {"num_workers": last, "num_workers_before": others, "same_weights": False}
    return summary
