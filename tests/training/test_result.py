"""Training result and its JSON serialization."""

import math
from dataclasses import replace

import pytest

from deepfm.metrics.binary import Metrics
from deepfm.metrics.calibration import Calibration
from deepfm.training.result import TrainingResult, result_from_json, result_to_json
from deepfm.training.state import EpochResult, TrainingHistory


def metrics(auc):
    return Metrics(num_rows=2, logloss=0.5, auc=auc, ctr=0.5, mean_probability=0.25, ece=0.25)


def result(auc=0.75, speeds=(100.0, 300.0)):
    epochs = [EpochResult(n, 0.6, metrics(auc), speed, 1.0) for n, speed in enumerate(speeds, start=1)]
    return TrainingResult(
        TrainingHistory(epochs, best=2),
        metrics(auc),
        metrics(auc),
        7,
        {"fm": TrainingHistory(epochs[:1], best=1)},
    )


def test_a_result_is_equal_after_a_round_trip_through_json():
    assert result_from_json(result_to_json(result())) == result()


def test_a_nan_auc_survives_a_round_trip_through_json():
    assert math.isnan(result_from_json(result_to_json(result(auc=math.nan))).valid.auc)


def test_the_best_epoch_is_the_one_in_the_history():
    assert result().best_epoch.number == 2


def test_without_a_better_epoch_the_best_one_is_that_of_the_stage_before():
    kept = replace(result(), history=TrainingHistory(result().history.epochs, best=0, baseline=metrics(0.9)))
    assert kept.best_epoch.number == 1
    assert kept.history.best_valid.auc == 0.9


def test_a_calibrated_result_is_equal_after_a_round_trip():
    pieces = Calibration("isotonic", knots=((-1.0, -2.0), (1.0, 0.5)))
    calibrated = replace(result(), calibration=pieces, uncalibrated={"valid": metrics(0.6)})
    assert result_from_json(result_to_json(calibrated)) == calibrated


def test_samples_per_second_is_all_rows_over_all_seconds():
    # The same number of rows at 100 per second and at 300 per second: 150 per second.
    assert result().samples_per_s == pytest.approx(150)


def test_a_result_without_a_first_stage_is_equal_after_a_round_trip():
    alone = replace(result(), earlier={})
    assert result_from_json(result_to_json(alone)) == alone
