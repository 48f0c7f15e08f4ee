"""AUC, logloss and calibration against scikit-learn and by hand; tallies add up."""

import math

import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.metrics.binary import BinaryMetrics, bins_of


def tally_of(*parts):
    tally = BinaryMetrics()
    for logits, labels in parts:
        tally.update(torch.as_tensor(logits), torch.as_tensor(labels))
    return tally


def random_rows(seed, num_rows=3000):
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rows, generator=random) - 1
    labels = (torch.rand(num_rows, generator=random) < torch.sigmoid(logits)).float()
    return logits, labels


def with_ties(seed):
    """Every other logit is one of a few values."""
    logits, labels = random_rows(seed)
    logits[::2] = logits[::2].round()
    return logits, labels


def with_extremes(seed):
    """Some logits so large that their probability is 0 or 1 in float32."""
    logits, labels = random_rows(seed)
    logits[:20], logits[20:40] = 15.5, -15.5
    return logits, labels


@pytest.mark.parametrize(
    "rows", [random_rows(0), with_ties(1), with_extremes(2)], ids=["random", "ties", "extreme"]
)
def test_auc_and_logloss_equal_those_of_scikit_learn(rows):
    found = tally_of(rows).compute()
    logits, labels = rows[0].double(), rows[1]
    # Bins of 3e-5 may hold a few pairs of rows that are not tied.
    assert found.auc == pytest.approx(roc_auc_score(labels, logits), abs=1e-6)
    assert found.logloss == pytest.approx(log_loss(labels, torch.sigmoid(logits)), rel=1e-9)


def test_auc_can_be_checked_by_hand():
    # Clicks 2 and 1, no clicks 1 and 0: of the four pairs three are in order and one is tied.
    found = tally_of(([2.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0])).compute()
    assert found.auc == 3.5 / 4


@pytest.mark.parametrize(("logits", "auc"), [([1.0, 0.0], 1.0), ([0.0, 1.0], 0.0), ([1.0, 1.0], 0.5)])
def test_auc_is_one_for_the_right_order_zero_for_the_wrong_and_half_for_a_tie(logits, auc):
    assert tally_of((logits, [1.0, 0.0])).compute().auc == auc


def test_logits_beyond_the_bins_keep_their_exact_logloss():
    found = tally_of(([100.0, -200.0], [0.0, 1.0])).compute()
    assert found.logloss == pytest.approx(150.0)
    assert found.auc == 0.0


def test_tallies_of_parts_add_up_to_the_tally_of_the_whole():
    logits, labels = with_ties(3)
    whole, parts = tally_of((logits, labels)), [tally_of((logits[i::3], labels[i::3])) for i in range(3)]
    counts = sum(part.counts for part in parts)
    sums = sum(part.sums for part in parts)
    assert torch.equal(counts, whole.counts)
    torch.testing.assert_close(sums, whole.sums, rtol=1e-13, atol=0)


def test_metrics_do_not_depend_on_how_rows_come_in_batches():
    logits, labels = with_ties(4)
    one, many = tally_of((logits, labels)), tally_of(*zip(logits.split(7), labels.split(7), strict=True))
    assert one.compute().auc == many.compute().auc
    assert one.compute().logloss == pytest.approx(many.compute().logloss, rel=1e-12)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_auc_of_one_class_is_nan_and_the_rest_is_not(label):
    found = tally_of(([0.3, -0.2], [label, label])).compute()
    assert math.isnan(found.auc)
    assert (found.num_rows, found.ctr) == (2, label)
    assert math.isfinite(found.logloss)


def test_calibration_is_mean_probability_over_ctr():
    # Probabilities 0.5 and 0.5, one click of two; then two clicks of two.
    assert tally_of(([0.0, 0.0], [0.0, 1.0])).compute().calibration == 1.0
    assert tally_of(([0.0, 0.0], [1.0, 1.0])).compute().calibration == 0.5


def test_calibration_without_clicks_is_nan():
    assert math.isnan(tally_of(([0.0], [0.0])).compute().calibration)


def test_a_logit_that_is_no_number_makes_the_logloss_nan():
    assert math.isnan(tally_of(([math.nan, 1.0], [0.0, 1.0])).compute().logloss)


def test_bins_keep_the_order_of_logits_and_hold_infinities():
    logits = torch.tensor(
        [-math.inf, -20.0, -16.0, -1e-3, 0.0, 1e-3, 15.9, 20.0, math.inf], dtype=torch.float64
    )
    bins = bins_of(logits).tolist()
    assert bins == sorted(bins)
    assert (bins[0], bins[-1]) == (0, 2**20 - 1)
    assert len(set(bins[2:7])) == 5


def test_calibration_error_is_the_gap_by_twentieths_of_the_probability_weighted_by_rows():
    logits, labels = random_rows(5)
    probabilities = torch.sigmoid(logits.double())
    expected = 0.0
    for low in range(20):
        mine = (probabilities >= low / 20) & (probabilities < (low + 1) / 20)
        if mine.any():
            gap = labels[mine].double().mean() - probabilities[mine].mean()
            expected += abs(gap.item()) * mine.sum().item() / len(labels)
    assert tally_of((logits, labels)).compute().ece == pytest.approx(expected, abs=1e-4)
    # Of the true probabilities it is small, of probabilities that are all doubled odds it is not.
    assert expected < 0.03 < tally_of((logits + math.log(2), labels)).compute().ece


def test_normalised_entropy_compares_with_always_saying_the_ctr():
    labels = torch.tensor([1.0, 0.0, 0.0, 0.0])
    at_ctr = torch.full((4,), math.log(1 / 3))
    assert tally_of((at_ctr, labels)).compute().normalised_entropy == pytest.approx(1)
    better = torch.tensor([2.0, -2.0, -2.0, -2.0])
    assert tally_of((better, labels)).compute().normalised_entropy < 0.3
    assert math.isnan(tally_of((better, torch.zeros(4))).compute().normalised_entropy)
