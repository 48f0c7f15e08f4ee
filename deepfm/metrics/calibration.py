"""Calibration of a model: a monotonic map of its logits, fitted on validation rows."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from deepfm.metrics.binary import bin_logits
from deepfm.metrics.formulas import logit_of, sigmoid

CalibrationMethod = Literal["platt", "isotonic"]
#: With fewer clicks, or fewer impressions without one, the CTR of the validation rows is known less exactly
#: than to 4.5 %, its standard error being 1 / sqrt(clicks): more than a model is usually off.
MIN_CLICKS = 500
_MAX_NEWTON_STEPS = 50
_MAX_STEPS = 100  # of isotonic regression


@dataclass(frozen=True)
class Calibration:
    """Map from logits to calibrated logits: a line (J. Platt 1999), or monotonic linear pieces."""

    method: CalibrationMethod
    slope: float = 1.0  # platt
    intercept: float = 0.0  # platt
    knots: tuple[tuple[float, float], ...] = ()  # isotonic: (logit, calibrated logit), ascending

    def apply(self, logits: Tensor) -> Tensor:
        """(n,) logits -> (n,) calibrated logits, of the same type."""
        if self.method == "platt":
            return logits * self.slope + self.intercept
        knots = torch.tensor(self.knots, dtype=torch.float64, device=logits.device)
        inputs, outputs = knots[:, 0].contiguous(), knots[:, 1]
        clamped = logits.double().clamp(inputs[0], inputs[-1])  # NaN stays NaN
        right = torch.searchsorted(inputs, clamped).clamp(1, len(inputs) - 1)
        left = right - 1
        share = (clamped - inputs[left]) / (inputs[right] - inputs[left])
        return torch.lerp(outputs[left], outputs[right], share).to(logits.dtype)


def fit_calibration(counts: Tensor, method: CalibrationMethod) -> Calibration | str:
    """Fit to (2, bins) counts, or weights, of impressions without and with a click, by bin of the logit.

    Returns the reason as text if it cannot be fitted: too few clicks, or scores that do not rise with them.
    """
    by_label = counts.cpu().numpy().astype(np.float64)
    smallest = by_label.sum(axis=1).min()
    if smallest < MIN_CLICKS:
        return (
            f"expected at least {MIN_CLICKS} validation rows with and without a click, found {smallest:g} of "
            "one kind"
        )
    present = by_label.sum(axis=0) > 0
    logits, clicks = bin_logits(by_label.shape[1])[present], by_label[1, present]
    rows = by_label[:, present].sum(axis=0)
    return _fit_line(logits, rows, clicks) if method == "platt" else _fit_pieces(logits, rows, clicks)


def _fit_line(logits: np.ndarray, rows: np.ndarray, clicks: np.ndarray) -> Calibration | str:
    """Fit slope and intercept by Newton's method on the logloss.

    A normal prior around slope 1 and intercept 0 with standard deviation 1, as much as one row, bounds the
    slope of scores that separate the labels.
    """
    features = np.stack([logits, np.ones_like(logits)])  # (2, bins)
    prior = weights = np.array([1.0, 0.0])
    for _ in range(_MAX_NEWTON_STEPS):
        probabilities = sigmoid(weights @ features)
        gradient = features @ (rows * probabilities - clicks) + (weights - prior)
        curvature = features * (rows * probabilities * (1 - probabilities)) @ features.T + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # Far from the optimum the curvature can be much smaller than on the way to it.
        weights = weights - step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < 1e-10:
            break
    slope, intercept = map(float, weights)
    if not slope > 0 or not math.isfinite(intercept):
        return f"expected scores that rise with the click rate, found a slope of {slope:.3g}"
    return Calibration("platt", slope, intercept)


def _fit_pieces(logits: np.ndarray, rows: np.ndarray, clicks: np.ndarray) -> Calibration | str:
    """Fit isotonic regression (B. Zadrozny and C. Elkan 2002): constant steps, linear between them.

    Small steps are joined with the next, because their click rates are mostly noise. Click rates get one
    click in two impressions more, so that those of 0 and 1 have logits.
    """
    rates = IsotonicRegression().fit_transform(logits, clicks / rows, sample_weight=rows)
    steps = np.flatnonzero(np.diff(rates, prepend=-1.0))  # where each starts
    share_before = (np.cumsum(rows) - rows)[steps] / rows.sum()
    starts = steps[np.unique(np.floor(_MAX_STEPS * share_before), return_index=True)[1]]
    if len(starts) < 2:
        return "expected scores that rise with the click rate, found none that do"
    step_rows, step_clicks = np.add.reduceat(rows, starts), np.add.reduceat(clicks, starts)
    outputs = np.maximum.accumulate(logit_of((step_clicks + 1) / (step_rows + 2)))
    ends = np.append(starts[1:], len(logits)) - 1
    # A step within one bin has one knot.
    knots = dict(zip(logits[starts].tolist(), outputs.tolist(), strict=True))
    knots |= dict(zip(logits[ends].tolist(), outputs.tolist(), strict=True))
    return Calibration("isotonic", knots=tuple(sorted(knots.items())))
