"""AUC, logloss and calibration compared with scikit-learn and values computed by hand; sums add up."""

import math

import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.metrics.binary import BinaryMetrics, bins_of


def metrics_of(*parts):
    metrics = BinaryMetrics()
    for logits, labels in parts:
        metrics.update(torch.as_tensor(logits), torch.as_tensor(labels))
    return metrics


def random_rows(seed, num_rows=3000):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rows, generator=generator) - 1
    labels = (torch.rand(num_rows, generator=generator) < torch.sigmoid(logits)).float()
    return logits, labels


def with_ties(seed):
    """Every second logit is rounded to an integer."""
    logits, labels = random_rows(seed)
    logits[::2] = logits[::2].round()
    return logits, labels


def with_extremes(seed):
    """Some logits are so large that their probability rounds to 0 or 1 in float32."""
    logits, labels = random_rows(seed)
    logits[:20], logits[20:40] = 15.5, -15.5
    return logits, labels


@pytest.mark.parametrize(
    "rows", [random_rows(0), with_ties(1), with_extremes(2)], ids=["random", "ties", "extreme"]
)
def test_auc_and_logloss_equal_those_of_scikit_learn(rows):
    metrics = metrics_of(rows).compute()
    logits, labels = rows[0].double(), rows[1]
    # A bin of width 3e-5 may contain a few pairs of rows that are not tied.
    assert metrics.auc == pytest.approx(roc_auc_score(labels, logits), abs=1e-6)
    assert metrics.logloss == pytest.approx(log_loss(labels, torch.sigmoid(logits)), rel=1e-9)


def test_auc_equals_the_value_computed_by_hand():
    # Clicks 2 and 1, no clicks 1 and 0: three of the four pairs are in order and one is tied.
    metrics = metrics_of(([2.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0])).compute()
    assert metrics.auc == 3.5 / 4


@pytest.mark.parametrize(("logits", "auc"), [([1.0, 0.0], 1.0), ([0.0, 1.0], 0.0), ([1.0, 1.0], 0.5)])
def test_auc_is_one_for_the_right_order_zero_for_the_wrong_and_half_for_a_tie(logits, auc):
    assert metrics_of((logits, [1.0, 0.0])).compute().auc == auc


def test_logits_beyond_the_bins_keep_their_exact_logloss():
    metrics = metrics_of(([100.0, -200.0], [0.0, 1.0])).compute()
    assert metrics.logloss == pytest.approx(150.0)
    assert metrics.auc == 0.0


def test_sums_of_parts_add_up_to_the_sums_of_all_rows():
    logits, labels = with_ties(3)
    whole, parts = metrics_of((logits, labels)), [metrics_of((logits[i::3], labels[i::3])) for i in range(3)]
    counts = sum(part.counts for part in parts)
    sums = sum(part.sums for part in parts)
    assert torch.equal(counts, whole.counts)
    torch.testing.assert_close(sums, whole.sums, rtol=1e-13, atol=0)


def test_metrics_do_not_depend_on_the_batches():
    logits, labels = with_ties(4)
    one, many = metrics_of((logits, labels)), metrics_of(*zip(logits.split(7), labels.split(7), strict=True))
    assert one.compute().auc == many.compute().auc
    assert one.compute().logloss == pytest.approx(many.compute().logloss, rel=1e-12)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_auc_of_one_class_is_nan_and_other_metrics_are_not(label):
    metrics = metrics_of(([0.3, -0.2], [label, label])).compute()
    assert math.isnan(metrics.auc)
    assert (metrics.num_rows, metrics.ctr) == (2, label)
    assert math.isfinite(metrics.logloss)


def test_calibration_is_mean_probability_over_ctr():
    # Probabilities 0.5 and 0.5, one click of two; then two clicks of two.
    assert metrics_of(([0.0, 0.0], [0.0, 1.0])).compute().calibration == 1.0
    assert metrics_of(([0.0, 0.0], [1.0, 1.0])).compute().calibration == 0.5


def test_calibration_without_clicks_is_nan():
    assert math.isnan(metrics_of(([0.0], [0.0])).compute().calibration)


def test_a_nan_logit_makes_the_logloss_nan():
    assert math.isnan(metrics_of(([math.nan, 1.0], [0.0, 1.0])).compute().logloss)


def test_bins_keep_the_order_of_logits_and_accept_infinities():
    logits = torch.tensor(
        [-math.inf, -20.0, -16.0, -1e-3, 0.0, 1e-3, 15.9, 20.0, math.inf], dtype=torch.float64
    )
    bins = bins_of(logits).tolist()
    assert bins == sorted(bins)
    assert (bins[0], bins[-1]) == (0, 2**20 - 1)
    assert len(set(bins[2:7])) == 5


def test_calibration_error_is_the_mean_gap_in_20_ranges_weighted_by_rows():
    logits, labels = random_rows(5)
    probabilities = torch.sigmoid(logits.double())
    expected = 0.0
    for low in range(20):
        in_range = (probabilities >= low / 20) & (probabilities < (low + 1) / 20)
        if in_range.any():
            gap = labels[in_range].double().mean() - probabilities[in_range].mean()
            expected += abs(gap.item()) * in_range.sum().item() / len(labels)
    assert metrics_of((logits, labels)).compute().ece == pytest.approx(expected, abs=1e-4)
    # It is small for the true probabilities, and large if all odds are doubled.
    assert expected < 0.03 < metrics_of((logits + math.log(2), labels)).compute().ece


def test_normalised_entropy_compares_with_always_predicting_the_ctr():
    labels = torch.tensor([1.0, 0.0, 0.0, 0.0])
    at_ctr = torch.full((4,), math.log(1 / 3))
    assert metrics_of((at_ctr, labels)).compute().normalised_entropy == pytest.approx(1)
    better = torch.tensor([2.0, -2.0, -2.0, -2.0])
    assert metrics_of((better, labels)).compute().normalised_entropy < 0.3
    assert math.isnan(metrics_of((better, torch.zeros(4))).compute().normalised_entropy)
