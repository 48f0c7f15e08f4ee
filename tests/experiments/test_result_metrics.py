"""The points behind the pictures, against scikit-learn; and that every picture is drawn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from deepfm.experiments.result_metrics import (
    calibration_points,
    lift_points,
    precision_recall_points,
    result_figures,
    roc_points,
)
from deepfm.metrics.binary import BinaryMetrics
from deepfm.training.result import TrainingResult
from deepfm.training.state import EpochResult, TrainingHistory


@pytest.fixture(scope="module")
def scored():
    """(tally, probabilities, labels) of impressions whose logits lie in the middle of a bin."""
    random = np.random.default_rng(3)
    logits = np.round(random.normal(-1, 1.5, 5000) * 32) / 32 + 1 / 64
    labels = (random.random(5000) < 1 / (1 + np.exp(-logits))).astype(float)
    tally = BinaryMetrics()
    tally.update(torch.from_numpy(logits), torch.from_numpy(labels))
    return tally, 1 / (1 + np.exp(-logits)), labels


def test_counts_hold_every_impression_by_its_label(scored):
    tally, _, labels = scored
    negatives, positives = tally.score_counts()
    assert (sum(negatives), sum(positives)) == ((labels == 0).sum(), labels.sum())


def test_the_roc_is_scikit_learns(scored):
    tally, probabilities, labels = scored
    false, true, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    ours = roc_points(tally.score_counts())
    assert auc(*ours) == pytest.approx(auc(false, true), abs=1e-12)
    assert auc(*ours) == pytest.approx(tally.compute().auc, abs=1e-12)


def test_precision_and_recall_are_scikit_learns(scored):
    tally, probabilities, labels = scored
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    found = set(
        zip(*(np.round(points, 9) for points in precision_recall_points(tally.score_counts())), strict=True)
    )
    expected = set(zip(np.round(recall, 9)[:-1], np.round(precision, 9)[:-1], strict=True))
    assert found == expected


def test_calibration_is_of_ranges_of_the_probability(scored):
    tally, probabilities, labels = scored
    promised, ctr, rows = calibration_points(tally.score_counts())
    ranges = (probabilities * 20).astype(int)
    for place, number in enumerate(np.unique(ranges)):
        chosen = ranges == number
        assert rows[place] == chosen.sum()
        assert ctr[place] == pytest.approx(labels[chosen].mean())
        assert promised[place] == pytest.approx(probabilities[chosen].mean())


def test_lift_is_of_tenths_from_the_highest_scores_down(scored):
    tally, probabilities, labels = scored
    lift = lift_points(tally.score_counts())
    assert lift.mean() == pytest.approx(1)
    assert (np.diff(lift) < 0).mean() > 0.7
    highest = labels[np.argsort(-probabilities)][:500].mean() / labels.mean()
    assert lift[0] == pytest.approx(highest, rel=0.05)  # ties at the border


def test_every_picture_is_drawn(scored):
    metrics = scored[0].compute()
    training = TrainingHistory(
        [EpochResult(1, 0.6, metrics, 1.0, 1.0), EpochResult(2, 0.5, metrics, 1.0, 1.0)], best=1
    )
    drawn = result_figures(TrainingResult(training, metrics, metrics, 1, None, scored[0].score_counts()))
    assert set(drawn) == {
        "training.png", "roc.png", "precision_recall.png", "calibration.png", "scores.png", "lift.png"
    }  # fmt: skip
    for figure in drawn.values():
        figure.canvas.draw()


def test_without_a_click_pictures_are_drawn_too():
    tally = BinaryMetrics()
    tally.update(torch.tensor([0.1, 0.2]), torch.zeros(2))
    metrics = tally.compute()
    training = TrainingHistory([EpochResult(1, 0.6, metrics, 1.0, 1.0)], best=1)
    for figure in result_figures(
        TrainingResult(training, metrics, metrics, 1, None, tally.score_counts())
    ).values():
        figure.canvas.draw()
