"""Metrics by field value, compared with scikit-learn on the rows with that value."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.fields import Field, FieldSet
from deepfm.metrics.field_counts import FIRST_SHOWN, MISSING, NUM_SHOWN, OTHER, UNKNOWN
from deepfm.metrics.slices import SliceAccumulator

#: S follows two slots of a list; T is not requested.
FIELDS = FieldSet(
    [
        Field(name="L", kind="list", max_values=2, separator=" "),
        Field(name="S", kind="category"),
        Field(name="T", kind="category"),
    ]
)
KIND_OF_ID = {0: MISSING, 1: UNKNOWN, 2: FIRST_SHOWN, 3: FIRST_SHOWN + 1, 2 + NUM_SHOWN: OTHER, 900: OTHER}


@pytest.fixture(scope="module")
def rows():
    """ids, logits and labels of 6,000 impressions; id 2 has a higher CTR and less informative logits."""
    rng = np.random.default_rng(3)
    s_ids = rng.choice(list(KIND_OF_ID), 6000)
    logits = rng.normal(0, 1.5, 6000)
    shift = np.where(s_ids == 2, 1.0, 0.0)
    labels = rng.random(6000) < 1 / (1 + np.exp(-(logits * (1 - 0.7 * (s_ids == 2)) + shift)))
    ids = np.stack([np.full(6000, 2), np.full(6000, -1), s_ids, rng.integers(0, 9, 6000)], axis=1)
    return torch.from_numpy(ids), torch.from_numpy(logits), torch.from_numpy(labels.astype(np.float32))


def accumulate(rows, *parts):
    accumulator = SliceAccumulator(FIELDS, ["S"])
    for part in parts:
        accumulator.update(*(column[part] for column in rows))
    return accumulator


def test_a_slice_has_the_metrics_of_its_rows(rows):
    ids, logits, labels = (column.numpy() for column in rows)
    (slices,) = accumulate(rows, slice(None)).compute().values()
    assert [one.kind for one in slices] == [MISSING, UNKNOWN, FIRST_SHOWN, FIRST_SHOWN + 1, OTHER]
    kinds = np.array([KIND_OF_ID[id_] for id_ in ids[:, 2]])
    for one in slices:
        in_slice = kinds == one.kind
        p = 1 / (1 + np.exp(-logits[in_slice]))
        assert (one.num_rows, one.ctr) == (in_slice.sum(), pytest.approx(labels[in_slice].mean()))
        assert one.logloss == pytest.approx(log_loss(labels[in_slice], p))
        assert one.auc == pytest.approx(roc_auc_score(labels[in_slice], p), abs=2e-4)
        assert one.calibration == pytest.approx(p.mean() / labels[in_slice].mean())


def test_slices_add_up_over_batches_and_ranks(rows):
    together = accumulate(rows, slice(None))
    one, other = accumulate(rows, slice(0, 1000), slice(1000, 1700)), accumulate(rows, slice(1700, None))
    for first, second, both in zip(one.tensors(), other.tensors(), together.tensors(), strict=True):
        torch.testing.assert_close(first + second, both)


def test_a_slice_without_clicks_has_no_auc_and_without_fields_nothing_is_computed(rows):
    accumulator = SliceAccumulator(FIELDS, ["S"])
    accumulator.update(torch.tensor([[2, -1, 3, 0]]), torch.tensor([0.5]), torch.tensor([0.0]))
    (slices,) = accumulator.compute()["S"]
    assert math.isnan(slices.auc) and math.isnan(slices.calibration)
    empty = SliceAccumulator(FIELDS, [])
    empty.update(*rows)
    assert (empty.tensors(), empty.compute()) == ([], {})
