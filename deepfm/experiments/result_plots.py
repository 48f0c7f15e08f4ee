"""Plots of a finished training: metrics by epoch, and curves of the scores of the test rows."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepfm.metrics.binary import ScoreCounts, bin_logits
from deepfm.metrics.formulas import sigmoid
from deepfm.training.result import TrainingResult
from deepfm.training.state import TrainingHistory

_NUM_RANGES = 20


def result_figures(result: TrainingResult) -> dict[str, Figure]:
    """All plots, by file name."""
    plots = {"training.png": training_curves(result.history)}
    if result.test_scores:
        plots |= {
            "roc.png": roc_curve(result.test_scores),
            "precision_recall.png": precision_recall_curve(result.test_scores),
            "calibration.png": calibration_curve(result.test_scores),
            "scores.png": score_histogram(result.test_scores),
            "lift.png": lift_by_decile(result.test_scores),
        }
    return plots


def roc_points(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates as the threshold decreases from above the highest score, from 0 to 1."""
    negatives, positives = _from_the_highest(counts)
    return negatives / max(negatives[-1], 1), positives / max(positives[-1], 1)


def precision_recall_points(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision as the threshold decreases, from the highest score of an impression."""
    negatives, positives = (sums[1:] for sums in _from_the_highest(counts))
    not_empty = negatives + positives > 0
    negatives, positives = negatives[not_empty], positives[not_empty]
    return positives / max(positives[-1], 1), positives / (negatives + positives)


def calibration_points(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, CTR and impressions of the non-empty ones among equal ranges of the probability."""
    negatives, positives = np.asarray(counts, np.float64)
    probabilities = sigmoid(bin_logits())
    ranges = (probabilities * _NUM_RANGES).astype(int)
    sums = [
        np.bincount(ranges, weights=values, minlength=_NUM_RANGES)
        for values in (negatives + positives, positives, (negatives + positives) * probabilities)
    ]
    rows, clicks, predicted = (values[sums[0] > 0] for values in sums)
    return predicted / rows, clicks / rows, rows


def lift_points(counts: ScoreCounts) -> np.ndarray:
    """(10,): CTR of each tenth of the impressions over the CTR of all, by decreasing score.

    A range of scores on the border of two tenths is divided between them.
    """
    negatives, positives = _from_the_highest(counts)
    rows = negatives + positives
    borders = np.interp(np.linspace(0, rows[-1], 11), rows, positives)
    return np.diff(borders) / (rows[-1] / 10) / max(positives[-1] / rows[-1], 1e-12)


def _from_the_highest(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """(SCORE_BINS + 1,) cumulative impressions without and with a click, from the highest score; 0 first."""
    return tuple(
        np.concatenate([[0.0], np.cumsum(label_counts[::-1])]) for label_counts in np.asarray(counts, float)
    )


def _empty(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def roc_curve(counts: ScoreCounts) -> Figure:
    """Curve of the test rows."""
    figure, axes = _empty("ROC, test rows", "false positive rate", "true positive rate")
    axes.plot(*roc_points(counts))
    axes.plot([0, 1], [0, 1], color="tab:gray", linestyle=":")
    return figure


def precision_recall_curve(counts: ScoreCounts) -> Figure:
    """Curve of the test rows."""
    figure, axes = _empty("Precision and recall, test rows", "recall", "precision")
    recall, precision = precision_recall_points(counts)
    axes.plot(recall, precision)
    axes.axhline(precision[-1], color="tab:gray", linestyle=":")  # the CTR
    axes.set_ylim(0, 1)
    return figure


def calibration_curve(counts: ScoreCounts) -> Figure:
    """Reliability diagram with the number of impressions of each point."""
    figure, axes = _empty("Calibration, test rows", "mean probability", "CTR")
    predicted, ctr, rows = calibration_points(counts)
    axes.plot([0, 1], [0, 1], color="tab:gray", linestyle=":")
    axes.plot(predicted, ctr, marker="o")
    row_axes = axes.twinx()
    row_axes.bar(predicted, rows, width=0.8 / _NUM_RANGES, alpha=0.2, color="tab:gray")
    row_axes.set_ylabel("impressions")
    return figure


def score_histogram(counts: ScoreCounts) -> Figure:
    """Histogram of the probabilities, by label."""
    figure, axes = _empty("Probabilities, test rows", "probability", "share of impressions with the label")
    probabilities = sigmoid(bin_logits())
    for label_counts, name, color in zip(counts, ("no click", "click"), ("tab:blue", "tab:red"), strict=True):
        weights = np.asarray(label_counts) / max(sum(label_counts), 1)
        axes.hist(probabilities, bins=25, range=(0, 1), weights=weights, alpha=0.5, label=name, color=color)
    axes.legend()
    return figure


def lift_by_decile(counts: ScoreCounts) -> Figure:
    """CTR of each tenth of the impressions, by decreasing score, over the CTR of all."""
    figure, axes = _empty(
        "Lift, test rows", "tenth of the impressions, by decreasing score", "CTR / CTR of all"
    )
    axes.bar(range(1, 11), lift_points(counts))
    axes.axhline(1, color="tab:gray", linestyle=":")
    axes.set_xticks(range(1, 11))
    return figure


def training_curves(training: TrainingHistory) -> Figure:
    """Training and validation logloss by epoch, their gap, and validation AUC."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss_axes, auc_axes = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in training.epochs]
    train = [epoch.train_logloss for epoch in training.epochs]
    valid = [epoch.valid.logloss for epoch in training.epochs]
    loss_axes.plot(numbers, train, marker="o", label="training")
    loss_axes.plot(numbers, valid, marker="o", label="validation")
    loss_axes.fill_between(numbers, train, valid, alpha=0.15, color="tab:gray")
    auc_axes.plot(numbers, [epoch.valid.auc for epoch in training.epochs], marker="o", label="validation")
    for axes, name in ((loss_axes, "logloss"), (auc_axes, "AUC")):
        if training.best:  # else none of these epochs
            axes.axvline(training.best, color="tab:green", linestyle=":", label="kept")
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.set_xticks(numbers)
        axes.legend()
    return figure
