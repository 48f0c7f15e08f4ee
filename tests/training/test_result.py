"""What a training came to, on its way back from the worker."""

import math
from dataclasses import replace

import pytest

from deepfm.metrics.binary import Metrics
from deepfm.training.result import TrainingResult, result_from_json, result_to_json
from deepfm.training.state import EpochResult, TrainingHistory


def metrics(auc):
    return Metrics(num_rows=2, logloss=0.5, auc=auc, ctr=0.5, mean_probability=0.25, ece=0.25)


def result(auc=0.75, speeds=(100.0, 300.0)):
    epochs = [EpochResult(n, 0.6, metrics(auc), speed, 1.0) for n, speed in enumerate(speeds, start=1)]
    return TrainingResult(
        TrainingHistory(epochs, best=2), metrics(auc), metrics(auc), 7, TrainingHistory(epochs[:1], best=1)
    )


def test_outcome_comes_back_from_json_as_it_was():
    assert result_from_json(result_to_json(result())) == result()


def test_an_auc_that_is_no_number_comes_back_from_json():
    assert math.isnan(result_from_json(result_to_json(result(auc=math.nan))).valid.auc)


def test_best_epoch_is_the_one_that_training_names():
    assert result().best_epoch.number == 2


def test_samples_per_second_are_all_rows_over_all_seconds():
    # As many rows at 100 a second and at 300 a second: 150 a second.
    assert result().samples_per_s == pytest.approx(150)


def test_an_outcome_without_a_first_stage_comes_back_from_json_too():
    alone = replace(result(), first_stage=None)
    assert result_from_json(result_to_json(alone)) == alone
