"""FM (Rendle 2010): first order, and the inner product of embeddings for each pair of fields."""

import math
from itertools import combinations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from deepfm.models.fm import FM
from deepfm.models.lr import LogisticRegression
from deepfm.training.optimizers.optimizer import Optimizer


def fm_by_definition(one):
    """Equation 1."""
    logit = one.w_0
    for i in one.fields:
        logit = logit + one.w[i] * one.x[i]
    for i, j in combinations(one.fields, 2):
        for k in one.dims:
            logit = logit + one.v[i][k] * one.v[j][k] * one.x[i] * one.x[j]
    return logit


def test_logit_and_gradients_equal_equation_1(equals_definition):
    equals_definition(lambda case: FM(case.num_ids, case.k), fm_by_definition)


def test_two_fields_give_the_logit_computed_by_hand():
    fm = FM([1, 2], 2)
    fm.linear.bias.data.fill_(0.5)
    fm.linear.weights.table.weight.data = torch.tensor([[1.0], [10.0], [20.0]])
    fm.embedding.table.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0], [-1.0, 1.0]])
    # 0.5 + 1 + 10 + (3 + 8), 0.5 + 1 + 20 + (-1 + 2)
    assert fm(torch.tensor([[0, 0], [0, 1]])).tolist() == [22.5, 22.5]
    # 0.5 + 2 + 10 * 0.5 + (3 + 8) * 2 * 0.5
    assert fm(torch.tensor([[0, 0]]), torch.tensor([[2.0, 0.5]])).tolist() == [18.5]


def test_first_order_starts_at_zero_and_embeddings_with_a_standard_deviation_of_001():
    torch.manual_seed(0)
    fm = FM([5000, 5000], 10)
    assert fm.linear.weights.table.weight.abs().max() == 0
    assert fm.embedding.table.weight.std().item() == pytest.approx(0.01, rel=0.02)


def logloss_after_training(model, ids, labels):
    optimizer = Optimizer(model, 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(model(ids), labels)
        loss.backward()
        optimizer.step()
    return loss.item()


def test_fm_learns_whether_two_ids_differ_and_lr_does_not():
    torch.manual_seed(0)
    # A click if the two ids differ: one field alone has no information.
    ids = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    labels = torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert logloss_after_training(LogisticRegression([2, 2]), ids, labels) == pytest.approx(
        math.log(2), abs=1e-3
    )
    assert logloss_after_training(FM([2, 2], 2), ids, labels) < 0.05
