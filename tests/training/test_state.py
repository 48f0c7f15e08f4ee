"""Training history: best epoch and number of plateaus."""

import pytest

from deepfm.metrics.binary import Metrics
from deepfm.training.state import EpochResult, TrainingHistory


def metrics(logloss, auc=0.5):
    return Metrics(num_rows=1, logloss=logloss, auc=auc, ctr=0.5, mean_probability=0.5, ece=0.0)


def training(*loglosses, best=1):
    epochs = [
        EpochResult(n, 0.5, metrics(logloss, auc=logloss), 1.0, 1.0) for n, logloss in enumerate(loglosses, 1)
    ]
    return TrainingHistory(epochs, best)


def test_an_epoch_is_an_improvement_if_it_is_the_first_or_better_than_the_best():
    assert TrainingHistory().is_improved_by(metrics(9.0), "logloss")
    assert training(0.5, 0.6).is_improved_by(metrics(0.49), "logloss")
    assert not training(0.5, 0.6).is_improved_by(metrics(0.55), "logloss")
    assert training(0.5, 0.6, best=2).is_improved_by(metrics(0.7, auc=0.61), "auc")


@pytest.mark.parametrize(
    ("loglosses", "patience", "expected"),
    [
        ((), 1, 0),
        ((0.5, 0.4, 0.3), 1, 0),
        ((0.5, 0.6), 1, 1),
        ((0.5, 0.6, 0.7), 1, 2),
        ((0.5, 0.6, 0.7), 2, 1),
        ((0.5, 0.6, 0.4, 0.45), 2, 0),  # an improvement in between restarts the count
        ((0.5, 0.6, 0.4, 0.45, 0.4), 2, 1),
    ],
)
def test_a_plateau_is_patience_epochs_in_a_row_without_improvement(loglosses, patience, expected):
    assert training(*loglosses).num_reductions("logloss", patience) == expected


def test_curves_contain_gauc_only_if_it_was_computed():
    epoch = EpochResult(2, 0.5, metrics(0.4), 10.0, 3.0)
    assert epoch.curves("fm_") == {
        "epoch": 2, "fm_train_logloss": 0.5, "fm_valid_logloss": 0.4, "fm_valid_auc": 0.5,
        "fm_valid_calibration": 1.0, "fm_samples_per_s": 10.0, "fm_epoch_seconds": 3.0,
    }  # fmt: skip
    with_gauc = Metrics(num_rows=1, logloss=0.4, auc=0.5, ctr=0.5, mean_probability=0.5, ece=0.0, gauc=0.7)
    assert EpochResult(2, 0.5, with_gauc, 10.0, 3.0).curves()["valid_gauc"] == 0.7
