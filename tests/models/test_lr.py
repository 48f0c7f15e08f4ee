"""LR (McMahan et al. 2013): w_0 + sum of w_i x_i."""

import torch

from deepfm.models.lr import LogisticRegression


def lr_by_definition(one):
    logit = one.w_0
    for i in one.fields:
        logit = logit + one.w[i] * one.x[i]
    return logit


def test_logit_and_gradients_equal_the_weighted_sum(equals_definition):
    equals_definition(lambda case: LogisticRegression(case.num_ids), lr_by_definition)


def test_all_weights_start_at_zero():
    assert {weight.abs().max().item() for weight in LogisticRegression([3, 2]).parameters()} == {0.0}


def test_two_fields_give_the_logit_computed_by_hand():
    lr = LogisticRegression([2, 2])
    lr.linear.weights.table.weight.data = torch.tensor([[1.0], [2.0], [10.0], [20.0]])
    lr.linear.bias.data.fill_(0.5)
    ids = torch.tensor([[0, 0], [1, 0], [1, 1]])
    assert lr(ids).tolist() == [11.5, 12.5, 22.5]
    assert lr(ids, torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, -0.5]])).tolist() == [11.5, 16.5, -7.5]
