"""Metrics of weighted rows compared with scikit-learn and with repeated rows."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.distributed.collectives import SingleProcess
from deepfm.fields import Field, FieldSet
from deepfm.metrics.binary import BinaryMetrics
from deepfm.metrics.gauc import Groups, GroupScores, gauc
from deepfm.metrics.slices import DetailedCounts, FieldValueCounts, SliceAccumulator

FIELDS = FieldSet(
    [Field(name="L", kind="list", max_values=2, separator=" "), Field(name="S", kind="category")]
)


def random_rows(seed=0, num_rows=2000):
    """(n, 3) ids of two list slots and a category, (n,) logits, many tied, labels, weights 0 to 4."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, num_rows).round(1)
    labels = rng.random(num_rows) < 1 / (1 + np.exp(-logits))
    ids = np.stack(
        [rng.integers(0, 9, num_rows), rng.integers(-1, 9, num_rows), rng.integers(0, 6, num_rows)], 1
    )
    weights = rng.integers(0, 5, num_rows)
    columns = ids, logits, labels.astype(np.float32), weights.astype(np.float32)
    return tuple(map(torch.from_numpy, columns))


def repeat(ids, logits, labels, weights):
    """The same rows, each as often as its weight, without weights."""
    return tuple(column.repeat_interleave(weights.long(), dim=0) for column in (ids, logits, labels))


def accumulate(ids, logits, labels, weights=None, num_parts=1):
    weighted = weights is not None
    metrics = BinaryMetrics(weighted=weighted)
    counts = FieldValueCounts(FIELDS, weighted=weighted)
    details = DetailedCounts(counts, SliceAccumulator(FIELDS, ["S"], weighted=weighted))
    for part in torch.arange(len(ids)).chunk(num_parts):
        part_weights = weights[part] if weighted else None
        metrics.update(logits[part], labels[part], part_weights)
        details.update(ids[part], logits[part], labels[part], part_weights)
    return metrics, details


def test_auc_and_logloss_equal_those_of_scikit_learn():
    _, logits, labels, weights = random_rows()
    weights = weights * 0.37
    metrics = BinaryMetrics(weighted=True)
    metrics.update(logits, labels, weights)
    metrics, sample_weight = metrics.compute(), weights.double().numpy()
    assert metrics.logloss == pytest.approx(log_loss(labels, logits.sigmoid(), sample_weight=sample_weight))
    assert metrics.auc == pytest.approx(roc_auc_score(labels, logits, sample_weight=sample_weight), abs=1e-6)
    assert metrics.ctr == pytest.approx(np.average(labels, weights=sample_weight))
    assert metrics.num_rows == 2000
    assert metrics.weight == pytest.approx(sample_weight.sum())


def test_integer_weights_equal_repeated_rows():
    rows = random_rows()
    weighted, repeated = accumulate(*rows, num_parts=3)[0].compute(), accumulate(*repeat(*rows))[0].compute()
    for name in ("logloss", "auc", "ctr", "mean_probability", "ece", "calibration", "normalised_entropy"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-9), name
    assert weighted.weight == repeated.num_rows
    assert repeated.weight is None


def test_slices_and_value_counts_of_integer_weights_equal_those_of_repeated_rows():
    rows = random_rows()
    (_, weighted), (_, repeated) = accumulate(*rows, num_parts=3), accumulate(*repeat(*rows))
    assert weighted.fields.counts.tolist() == repeated.fields.counts.tolist()
    slices, expected = weighted.slices.compute()["S"], repeated.slices.compute()["S"]
    assert sum(one.num_rows for one in slices) == 2000
    assert len(slices) == len(expected) > 3
    for one, other in zip(slices, expected, strict=True):
        for name in ("kind", "logloss", "auc", "ctr", "mean_probability"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9), name


def test_a_slice_whose_weights_are_0_has_no_metrics():
    ids, logits, labels, weights = random_rows()
    weights[ids[:, 2] == 3] = 0
    kinds = [one.kind for one in accumulate(ids, logits, labels, weights)[1].slices.compute()["S"]]
    assert len(kinds) == len(accumulate(ids, logits, labels)[1].slices.compute()["S"]) - 1


def test_sums_of_weighted_rows_restore_their_metrics():
    metrics, _ = accumulate(*random_rows())
    restored = BinaryMetrics.from_sums(metrics.counts.numpy(), *metrics.sums.tolist())
    assert restored.compute() == metrics.compute()


def test_gauc_of_integer_weights_equals_that_of_repeated_rows():
    rows = random_rows()
    ids, logits, labels = repeat(*rows)
    expected = gauc(ids[:, 2], logits, labels.long())
    assert gauc(rows[0][:, 2], rows[1], rows[2].long(), rows[3]) == pytest.approx(expected, rel=1e-12)
    assert not math.isnan(expected)


def test_gauc_of_batches_uses_their_weights():
    ids, logits, labels, weights = random_rows()
    scores = GroupScores(Groups(2, 2))
    for part in torch.arange(len(ids)).chunk(3):
        scores.update(ids[part], logits[part], labels[part], weights[part])
    known = ids[:, 2] >= 2
    expected = gauc(ids[known, 2], logits[known], labels[known].long(), weights[known])
    assert scores.gauc(SingleProcess()) == pytest.approx(expected, rel=1e-12)
