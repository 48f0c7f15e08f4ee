"""What a finished training looks like: curves of its epochs, and of its scores on the test rows."""

import numpy as np
from matplotlib.figure import Figure

from deepfm.metrics.binary import ScoreCounts, bin_logits
from deepfm.training.result import TrainingResult
from deepfm.training.state import TrainingHistory

_NUM_RANGES = 20


def result_figures(result: TrainingResult) -> dict[str, Figure]:
    """By file name."""
    drawn = {"training.png": training_curves(result.history)}
    if result.test_scores:
        drawn |= {
            "roc.png": roc_curve(result.test_scores),
            "precision_recall.png": precision_recall_curve(result.test_scores),
            "calibration.png": calibration_curve(result.test_scores),
            "scores.png": score_histogram(result.test_scores),
            "lift.png": lift_by_decile(result.test_scores),
        }
    return drawn


def roc_points(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates as the threshold falls from above the highest score; from 0 to 1."""
    negatives, positives = _from_the_highest(counts)
    return negatives / max(negatives[-1], 1), positives / max(positives[-1], 1)


def precision_recall_points(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision as the threshold falls; from the highest score that an impression has."""
    negatives, positives = (sums[1:] for sums in _from_the_highest(counts))
    some = negatives + positives > 0
    negatives, positives = negatives[some], positives[some]
    return positives / max(positives[-1], 1), positives / (negatives + positives)


def calibration_points(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, CTR and impressions of equal ranges of the probability that have any."""
    negatives, positives = np.asarray(counts, np.float64)
    probabilities = 1 / (1 + np.exp(-bin_logits()))
    ranges = (probabilities * _NUM_RANGES).astype(int)
    sums = [
        np.bincount(ranges, weights=values, minlength=_NUM_RANGES)
        for values in (negatives + positives, positives, (negatives + positives) * probabilities)
    ]
    rows, clicks, promised = (values[sums[0] > 0] for values in sums)
    return promised / rows, clicks / rows, rows


def lift_points(counts: ScoreCounts) -> np.ndarray:
    """(10,): CTR of each tenth of the impressions over the CTR of all, from the highest scores down.

    A range of scores that crosses the border of two tenths is shared out between them.
    """
    negatives, positives = _from_the_highest(counts)
    rows = negatives + positives
    borders = np.interp(np.linspace(0, rows[-1], 11), rows, positives)
    return np.diff(borders) / (rows[-1] / 10) / max(positives[-1] / rows[-1], 1e-12)


def _from_the_highest(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """(SCORE_BINS + 1,) impressions without and with a click, added up from the highest score; 0 first."""
    return tuple(np.concatenate([[0.0], np.cumsum(of_label[::-1])]) for of_label in np.asarray(counts, float))


def _empty(title: str, x: str, y: str) -> tuple[Figure, object]:
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def roc_curve(counts: ScoreCounts) -> Figure:
    """Of the test rows."""
    figure, axes = _empty("ROC, test rows", "false positive rate", "true positive rate")
    axes.plot(*roc_points(counts))
    axes.plot([0, 1], [0, 1], color="tab:gray", linestyle=":")
    return figure


def precision_recall_curve(counts: ScoreCounts) -> Figure:
    """Of the test rows."""
    figure, axes = _empty("Precision and recall, test rows", "recall", "precision")
    recall, precision = precision_recall_points(counts)
    axes.plot(recall, precision)
    axes.axhline(precision[-1], color="tab:gray", linestyle=":")  # of all: the CTR
    axes.set_ylim(0, 1)
    return figure


def calibration_curve(counts: ScoreCounts) -> Figure:
    """Reliability, with how many impressions each point stands for."""
    figure, axes = _empty("Calibration, test rows", "mean probability", "CTR")
    promised, ctr, rows = calibration_points(counts)
    axes.plot([0, 1], [0, 1], color="tab:gray", linestyle=":")
    axes.plot(promised, ctr, marker="o")
    of_rows = axes.twinx()
    of_rows.bar(promised, rows, width=0.8 / _NUM_RANGES, alpha=0.2, color="tab:gray")
    of_rows.set_ylabel("impressions")
    return figure


def score_histogram(counts: ScoreCounts) -> Figure:
    """Of the probabilities, by label."""
    figure, axes = _empty("Probabilities, test rows", "probability", "share of the label's impressions")
    probabilities = 1 / (1 + np.exp(-bin_logits()))
    for of_label, name, colour in zip(counts, ("no click", "click"), ("tab:blue", "tab:red"), strict=True):
        weights = np.asarray(of_label) / max(sum(of_label), 1)
        axes.hist(probabilities, bins=25, range=(0, 1), weights=weights, alpha=0.5, label=name, color=colour)
    axes.legend()
    return figure


def lift_by_decile(counts: ScoreCounts) -> Figure:
    """How much more is clicked among the impressions that scored highest."""
    figure, axes = _empty(
        "Lift, test rows", "tenth of the impressions, highest scores first", "CTR / CTR of all"
    )
    axes.bar(range(1, 11), lift_points(counts))
    axes.axhline(1, color="tab:gray", linestyle=":")
    axes.set_xticks(range(1, 11))
    return figure


def training_curves(training: TrainingHistory) -> Figure:
    """Logloss of training and validation rows by epoch, their gap, and validation's AUC."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    of_loss, of_auc = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in training.epochs]
    train = [epoch.train_logloss for epoch in training.epochs]
    valid = [epoch.valid.logloss for epoch in training.epochs]
    of_loss.plot(numbers, train, marker="o", label="training")
    of_loss.plot(numbers, valid, marker="o", label="validation")
    of_loss.fill_between(numbers, train, valid, alpha=0.15, color="tab:gray")
    of_auc.plot(numbers, [epoch.valid.auc for epoch in training.epochs], marker="o", label="validation")
    for axes, name in ((of_loss, "logloss"), (of_auc, "AUC")):
        axes.axvline(training.best, color="tab:green", linestyle=":", label="kept")
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.set_xticks(numbers)
        axes.legend()
    return figure
