"""Points of the result plots, compared with scikit-learn; and drawing of all plots."""

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from deepfm.experiments.result_plots import (
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
    """(metrics, probabilities, labels) of impressions with logits in the center of a bin."""
    rng = np.random.default_rng(3)
    logits = np.round(rng.normal(-1, 1.5, 5000) * 32) / 32 + 1 / 64
    labels = (rng.random(5000) < 1 / (1 + np.exp(-logits))).astype(float)
    binary_metrics = BinaryMetrics()
    binary_metrics.update(torch.from_numpy(logits), torch.from_numpy(labels))
    return binary_metrics, 1 / (1 + np.exp(-logits)), labels


def test_score_counts_contain_all_impressions_by_label(scored):
    binary_metrics, _, labels = scored
    negatives, positives = binary_metrics.score_counts()
    assert (sum(negatives), sum(positives)) == ((labels == 0).sum(), labels.sum())


def test_the_roc_equals_that_of_scikit_learn(scored):
    binary_metrics, probabilities, labels = scored
    false, true, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    ours = roc_points(binary_metrics.score_counts())
    assert auc(*ours) == pytest.approx(auc(false, true), abs=1e-12)
    assert auc(*ours) == pytest.approx(binary_metrics.compute().auc, abs=1e-12)


def test_precision_and_recall_equal_those_of_scikit_learn(scored):
    binary_metrics, probabilities, labels = scored
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    actual = set(
        zip(
            *(np.round(points, 9) for points in precision_recall_points(binary_metrics.score_counts())),
            strict=True,
        )
    )
    expected = set(zip(np.round(recall, 9)[:-1], np.round(precision, 9)[:-1], strict=True))
    assert actual == expected


def test_calibration_is_computed_by_range_of_the_probability(scored):
    binary_metrics, probabilities, labels = scored
    predicted, ctr, rows = calibration_points(binary_metrics.score_counts())
    ranges = (probabilities * 20).astype(int)
    for index, number in enumerate(np.unique(ranges)):
        in_range = ranges == number
        assert rows[index] == in_range.sum()
        assert ctr[index] == pytest.approx(labels[in_range].mean())
        assert predicted[index] == pytest.approx(probabilities[in_range].mean())


def test_lift_is_computed_by_decile_in_descending_order_of_scores(scored):
    binary_metrics, probabilities, labels = scored
    lift = lift_points(binary_metrics.score_counts())
    assert lift.mean() == pytest.approx(1)
    assert (np.diff(lift) < 0).mean() > 0.7
    highest = labels[np.argsort(-probabilities)][:500].mean() / labels.mean()
    assert lift[0] == pytest.approx(highest, rel=0.05)  # ties at the boundary


def test_all_plots_are_drawn(scored):
    metrics = scored[0].compute()
    training = TrainingHistory(
        [EpochResult(1, 0.6, metrics, 1.0, 1.0), EpochResult(2, 0.5, metrics, 1.0, 1.0)], best=1
    )
    figures = result_figures(TrainingResult(training, metrics, metrics, 1, {}, scored[0].score_counts()))
    assert set(figures) == {
        "training.png", "roc.png", "precision_recall.png", "calibration.png", "scores.png", "lift.png"
    }  # fmt: skip
    for figure in figures.values():
        figure.canvas.draw()


def test_plots_are_drawn_without_clicks_too():
    binary_metrics = BinaryMetrics()
    binary_metrics.update(torch.tensor([0.1, 0.2]), torch.zeros(2))
    metrics = binary_metrics.compute()
    training = TrainingHistory([EpochResult(1, 0.6, metrics, 1.0, 1.0)], best=1)
    for figure in result_figures(
        TrainingResult(training, metrics, metrics, 1, {}, binary_metrics.score_counts())
    ).values():
        figure.canvas.draw()
