"""Wide & Deep (Cheng et al. 2016): linear over features and crossed features, plus a deep part."""

import torch

from deepfm.models.wide_deep import WideDeep


def wide_deep_by_definition(one):
    """Equation 3 before its sigmoid: only the wide part uses the crossed fields."""
    wide = one.w_0
    for i in one.fields:
        wide = wide + one.w[i] * one.x[i]
    for c in one.crossed:
        wide = wide + one.row_of("linear.weights", c)[0] * one.x[c]
    return wide + one.deep([one.v[i][k] * one.x[i] for i in one.fields for k in one.dims])


def test_logit_and_gradients_equal_equation_3(equals_definition):
    equals_definition(
        lambda case: WideDeep(case.num_ids, case.k, num_crossed_ids=case.crossed, **case.deep),
        wide_deep_by_definition,
    )


def lr_and_dnn_by_definition(one):
    logit = one.w_0 + one.deep([one.v[i][k] * one.x[i] for i in one.fields for k in one.dims])
    for i in one.fields:
        logit = logit + one.w[i] * one.x[i]
    return logit


def test_without_crossed_fields_it_is_lr_and_dnn(equals_definition):
    equals_definition(lambda case: WideDeep(case.num_ids, case.k, **case.deep), lr_and_dnn_by_definition)


def test_a_crossed_id_changes_the_logit_by_exactly_its_weight():
    torch.manual_seed(0)
    net = WideDeep([3, 2], 2, num_crossed_ids=[4], hidden_units=(3,))
    net.linear.weights.table.weight.data[5:] = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    logits = net(torch.tensor([[2, 1, 0], [2, 1, 1], [2, 1, 3]]))
    torch.testing.assert_close(logits - logits[0], torch.tensor([0.0, 10.0, 30.0]))


def test_crossed_fields_have_no_embedding():
    net = WideDeep([3, 2], 2, num_crossed_ids=[4], hidden_units=(3,))
    assert net.embedding.table.weight.shape == (5, 2)
    assert net.linear.weights.table.weight.shape == (9, 1)
