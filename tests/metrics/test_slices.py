"""A model measured by value, against scikit-learn over the rows with that value."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.fields import Field, FieldSet
from deepfm.metrics.field_counts import FIRST_SHOWN, MISSING, NUM_SHOWN, OTHER, UNKNOWN
from deepfm.metrics.slices import SliceAccumulator

#: S is after two slots of a list; of T, which nobody asks for, there are more.
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
    """ids, logits and labels of 6,000 impressions; what follows 2 is clicked more, and known less well."""
    random = np.random.default_rng(3)
    of_s = random.choice(list(KIND_OF_ID), 6000)
    logits = random.normal(0, 1.5, 6000)
    shift = np.where(of_s == 2, 1.0, 0.0)
    labels = random.random(6000) < 1 / (1 + np.exp(-(logits * (1 - 0.7 * (of_s == 2)) + shift)))
    ids = np.stack([np.full(6000, 2), np.full(6000, -1), of_s, random.integers(0, 9, 6000)], axis=1)
    return torch.from_numpy(ids), torch.from_numpy(logits), torch.from_numpy(labels.astype(np.float32))


def tallied(rows, *parts):
    tally = SliceAccumulator(FIELDS, ["S"])
    for part in parts:
        tally.update(*(column[part] for column in rows))
    return tally


def test_a_slice_has_the_figures_of_its_rows(rows):
    ids, logits, labels = (column.numpy() for column in rows)
    (found,) = tallied(rows, slice(None)).compute().values()
    assert [one.kind for one in found] == [MISSING, UNKNOWN, FIRST_SHOWN, FIRST_SHOWN + 1, OTHER]
    kinds = np.array([KIND_OF_ID[id_] for id_ in ids[:, 2]])
    for one in found:
        own = kinds == one.kind
        p = 1 / (1 + np.exp(-logits[own]))
        assert (one.num_rows, one.ctr) == (own.sum(), pytest.approx(labels[own].mean()))
        assert one.logloss == pytest.approx(log_loss(labels[own], p))
        assert one.auc == pytest.approx(roc_auc_score(labels[own], p), abs=2e-4)
        assert one.calibration == pytest.approx(p.mean() / labels[own].mean())


def test_slices_add_up_over_batches_and_ranks(rows):
    together = tallied(rows, slice(None))
    one, other = tallied(rows, slice(0, 1000), slice(1000, 1700)), tallied(rows, slice(1700, None))
    for ours, theirs, both in zip(one.tensors(), other.tensors(), together.tensors(), strict=True):
        torch.testing.assert_close(ours + theirs, both)


def test_a_slice_without_clicks_has_no_auc_and_nothing_asked_for_costs_nothing(rows):
    tally = SliceAccumulator(FIELDS, ["S"])
    tally.update(torch.tensor([[2, -1, 3, 0]]), torch.tensor([0.5]), torch.tensor([0.0]))
    (found,) = tally.compute()["S"]
    assert math.isnan(found.auc) and math.isnan(found.calibration)
    nothing = SliceAccumulator(FIELDS, [])
    nothing.update(*rows)
    assert (nothing.tensors(), nothing.compute()) == ([], {})
