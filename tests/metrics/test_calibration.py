"""Calibration: maps of logits fitted to counts of clicks by logit."""

import numpy as np
import pytest
import torch

from deepfm.metrics.binary import BinaryMetrics
from deepfm.metrics.calibration import MIN_CLICKS, Calibration, fit_calibration

METHODS = ["platt", "isotonic"]


def drawn(num_rows=200_000, slope=1.0, intercept=0.0, seed=1):
    """Logits of a model, and labels whose true logits are slope * logit + intercept."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1.0, 1.2, num_rows)
    probabilities = 1 / (1 + np.exp(-(slope * logits + intercept)))
    return torch.from_numpy(logits), torch.from_numpy(random.random(num_rows) < probabilities).double()


def metrics_of(logits, labels):
    metrics = BinaryMetrics()
    metrics.update(logits, labels)
    return metrics


def test_platt_finds_slope_and_intercept():
    fitted = fit_calibration(metrics_of(*drawn(slope=0.7, intercept=0.3)).counts, "platt")
    assert (fitted.slope, fitted.intercept) == pytest.approx((0.7, 0.3), abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_mean_probability_is_the_ctr_afterwards_and_the_logloss_is_lower(method):
    logits, labels = drawn(slope=0.6, intercept=-0.4)
    before = metrics_of(logits, labels).compute()
    fitted = fit_calibration(metrics_of(logits, labels).counts, method)
    after = metrics_of(fitted.apply(logits), labels).compute()
    assert before.calibration > 1.05
    assert after.calibration == pytest.approx(1.0, abs=0.005)
    assert after.logloss < before.logloss and after.ece < before.ece / 5


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_scores_stays(method):
    fitted = fit_calibration(metrics_of(*drawn()).counts, method)
    scores = fitted.apply(torch.linspace(-20, 20, 10_001, dtype=torch.float64))
    assert (scores.diff() >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_calibrated_model_hardly_changes(method):
    logits, labels = drawn()
    fitted = fit_calibration(metrics_of(logits, labels).counts, method)
    middle = torch.linspace(-2.5, 0.5, 50, dtype=torch.float64)
    assert (fitted.apply(middle) - middle).abs().max() < 0.2


def test_isotonic_fits_what_a_line_cannot():
    random = np.random.default_rng(2)
    logits = torch.from_numpy(random.normal(0, 2, 300_000))
    labels = torch.from_numpy(random.random(300_000) < np.where(logits < 0, 0.1, 0.4)).double()
    line, pieces = (fit_calibration(metrics_of(logits, labels).counts, method) for method in METHODS)
    errors = [metrics_of(fitted.apply(logits), labels).compute().ece for fitted in (line, pieces)]
    assert errors[1] < 0.005 < errors[0]


def test_weights_count_as_so_many_rows():
    logits, labels = drawn(20_000, slope=0.8)
    repeated = metrics_of(torch.cat([logits, logits]), torch.cat([labels, labels]))
    weighted = BinaryMetrics(weighted=True)
    weighted.update(logits, labels, torch.full_like(logits, 2.0))
    assert fit_calibration(weighted.counts, "platt") == fit_calibration(repeated.counts, "platt")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("flip", [False, True])
def test_too_few_clicks_or_others_are_refused(method, flip):
    logits = torch.linspace(-3, 3, 20_000, dtype=torch.float64)
    labels = torch.zeros_like(logits)
    labels[-(MIN_CLICKS - 1) :] = 1
    labels = 1 - labels if flip else labels
    reason = fit_calibration(metrics_of(logits, labels).counts, method)
    assert reason == "expected at least 500 validation rows with and without a click, found 499 of one kind"


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_fall_with_the_click_rate_are_refused(method):
    logits, labels = drawn(20_000)
    assert "expected scores that rise" in fit_calibration(metrics_of(-logits, labels).counts, method)


def test_the_slope_of_scores_that_separate_the_labels_is_finite():
    logits = torch.linspace(-3, 3, 20_000, dtype=torch.float64)
    fitted = fit_calibration(metrics_of(logits, (logits > 0).double()).counts, "platt")
    assert 1 < fitted.slope < 1e4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_keep_their_type(dtype):
    logits = torch.tensor([-2.0, 0.5], dtype=dtype)
    line, pieces = Calibration("platt", 2.0, 1.0), Calibration("isotonic", knots=((-1.0, -2.0), (1.0, 0.0)))
    assert line.apply(logits).tolist() == [-3.0, 2.0]
    assert pieces.apply(logits).tolist() == [-2.0, -0.5]
    assert line.apply(logits).dtype == pieces.apply(logits).dtype == dtype


def test_nan_stays_nan():
    pieces = Calibration("isotonic", knots=((-1.0, -2.0), (1.0, 0.0)))
    assert pieces.apply(torch.tensor([float("nan")])).isnan().all()
