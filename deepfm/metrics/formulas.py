"""Formulas of binary classification on numpy arrays, without PyTorch."""

import math

import numpy as np


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits -> probabilities, of any shape."""
    return 1.0 / (1.0 + np.exp(-logits))


def logit_of(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities between 0 and 1, both excluded -> logits, of any shape."""
    return np.log(probabilities) - np.log1p(-probabilities)


def logloss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) logits and (n,) labels of 0 and 1 -> (n,) losses in nats: log(1 + exp(z)) - y z."""
    return np.logaddexp(0.0, logits) - labels * logits


def entropy(probability: float) -> float:
    """Entropy in nats of an event: the logloss of always predicting its probability."""
    return -sum(p * math.log(p) for p in (probability, 1 - probability) if p)


def auc_from_counts(negatives: np.ndarray, positives: np.ndarray) -> float:
    """AUC of (bins,) counts of impressions without and with a click, by ascending score.

    The share of (click, no click) pairs in the right order, ties counting half (Mann-Whitney). NaN if all
    labels are equal.
    """
    negatives, positives = np.asarray(negatives, np.float64), np.asarray(positives, np.float64)
    # Clicks of a bin win against all non-clicks in lower bins, and half against those in the same bin.
    won = (positives * (np.cumsum(negatives) - 0.5 * negatives)).sum()
    num_pairs = float(negatives.sum()) * float(positives.sum())
    return float(won) / num_pairs if num_pairs else math.nan
