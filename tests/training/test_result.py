"""What a training came to, on its way back from the worker."""

import math
from dataclasses import replace

import pytest

from deepfm.metrics.binary import Metrics
from deepfm.training.result import Outcome, outcome_from_json, outcome_to_json
from deepfm.training.state import Epoch, Training


def metrics(auc):
    return Metrics(num_rows=2, logloss=0.5, auc=auc, ctr=0.5, mean_probability=0.25, ece=0.25)


def outcome(auc=0.75, speeds=(100.0, 300.0)):
    epochs = [Epoch(n, 0.6, metrics(auc), speed, 1.0) for n, speed in enumerate(speeds, start=1)]
    return Outcome(Training(epochs, best=2), metrics(auc), metrics(auc), 7, Training(epochs[:1], best=1))


def test_outcome_comes_back_from_json_as_it_was():
    assert outcome_from_json(outcome_to_json(outcome())) == outcome()


def test_an_auc_that_is_no_number_comes_back_from_json():
    assert math.isnan(outcome_from_json(outcome_to_json(outcome(auc=math.nan))).valid.auc)


def test_best_epoch_is_the_one_that_training_names():
    assert outcome().best_epoch.number == 2


def test_samples_per_second_are_all_rows_over_all_seconds():
    # As many rows at 100 a second and at 300 a second: 150 a second.
    assert outcome().samples_per_s == pytest.approx(150)


def test_an_outcome_without_a_first_stage_comes_back_from_json_too():
    alone = replace(outcome(), first_stage=None)
    assert outcome_from_json(outcome_to_json(alone)) == alone
