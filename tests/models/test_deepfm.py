"""DeepFM: its three terms over the same embeddings, its size, its gradients and its penalty."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from deepfm.config import ModelSettings
from deepfm.models.build import build_model
from deepfm.models.deepfm import DeepFM
from deepfm.models.layers import pairwise_interaction

NUM_IDS = (3, 4, 2)
IDS = torch.tensor([[0, 0, 0], [2, 3, 1], [1, 1, 0], [2, 0, 1]])


def model(**deep):
    torch.manual_seed(0)
    built = DeepFM(NUM_IDS, 2, **{"hidden_units": (5, 4), **deep})
    # First-order weights start at zero, where a model that forgot them would look the same.
    nn.init.normal_(built.linear.weights.table.weight)
    nn.init.normal_(built.linear.bias)
    return built


def test_logit_is_first_order_plus_pairs_plus_deep_part_over_the_same_embeddings():
    deepfm = model()
    rows = IDS + torch.tensor([0, 3, 7])
    v = deepfm.embedding.table.weight[rows]  # (B, F, K)
    first_order = deepfm.linear.bias + deepfm.linear.weights.table.weight[rows].sum(dim=(1, 2))
    expected = first_order + pairwise_interaction(v) + deepfm.deep(v.reshape(4, 6))
    torch.testing.assert_close(deepfm(IDS), expected)


def test_logits_are_one_float32_an_impression():
    logits = model()(IDS)
    assert (logits.shape, logits.dtype) == ((4,), torch.float32)


def test_a_logit_does_not_depend_on_the_rest_of_the_batch():
    deepfm = model().eval()
    torch.testing.assert_close(deepfm(IDS)[2:3], deepfm(IDS[2:3]))


def test_logits_are_no_probabilities():
    deepfm = model()
    deepfm.linear.bias.data.fill_(-7.0)
    assert deepfm(IDS).max() < -1


@pytest.mark.parametrize("hidden_units", [(5, 4), (7,), (3, 3, 3)])
def test_number_of_weights_is_that_of_the_docstring(hidden_units):
    n, f, k = 9, 3, 2
    widths = [f * k, *hidden_units]
    expected = n * (k + 1) + 1
    expected += sum((a + 1) * b for a, b in pairwise(widths)) + widths[-1] + 1
    assert sum(weight.numel() for weight in model(hidden_units=hidden_units).parameters()) == expected


def test_tables_have_sparse_gradients_and_all_other_weights_dense_ones():
    deepfm = model()
    deepfm(IDS).sum().backward()
    sparse = {name for name, weight in deepfm.named_parameters() if weight.grad.is_sparse}
    assert sparse == {"linear.weights.table.weight", "embedding.table.weight"}


def test_both_parts_move_the_one_embedding():
    deepfm = model()
    v = deepfm.embedding(IDS).detach().requires_grad_()
    (pairwise_interaction(v) + deepfm.deep(v.flatten(1))).sum().backward()
    expected = torch.zeros(9, 2).index_add_(
        0, (IDS + torch.tensor([0, 3, 7])).flatten(), v.grad.reshape(-1, 2)
    )
    deepfm(IDS).sum().backward()
    torch.testing.assert_close(deepfm.embedding.table.weight.grad.to_dense(), expected)


def test_penalty_counts_a_row_as_often_as_it_is_looked_up():
    deepfm = model()
    w, v = deepfm.linear.weights.table.weight, deepfm.embedding.table.weight
    expected = 0.0
    for impression in IDS.tolist():
        for offset, id_in_field in zip((0, 3, 7), impression, strict=True):
            row = offset + id_in_field
            expected += 0.5 * (0.1 * w[row].square().sum() + 0.01 * v[row].square().sum())
    torch.testing.assert_close(deepfm.penalty(IDS, 0.1, 0.01), expected)


def test_penalty_leaves_bias_and_deep_part_alone():
    deepfm = model()
    deepfm.penalty(IDS, 0.1, 0.01).backward()
    assert {name for name, weight in deepfm.named_parameters() if weight.grad is not None} == {
        "linear.weights.table.weight",
        "embedding.table.weight",
    }


def test_dropout_acts_in_training_and_not_in_evaluation():
    deepfm = model(dropout=0.5)
    assert not torch.equal(deepfm.train()(IDS), deepfm(IDS))
    assert torch.equal(deepfm.eval()(IDS), deepfm(IDS))


def test_batch_norm_keeps_statistics_in_training_and_uses_them_in_evaluation():
    deepfm = model(batch_norm=True)
    before = deepfm.eval()(IDS)
    deepfm.train()(IDS)
    assert deepfm.deep.layers[1].num_batches_tracked == 1
    assert not torch.equal(deepfm.eval()(IDS), before)


def test_settings_become_the_models_arguments():
    settings = ModelSettings.model_validate(
        {
            "model": "deepfm",
            "embedding_dim": 2,
            "deep": {"hidden_units": [5], "activation": "tanh", "dropout": 0.3, "batch_norm": True},
            "training": {"batch_size": 4, "max_epochs": 1, "learning_rate": 0.1},
        }
    )
    built = build_model(settings, NUM_IDS)
    assert built.embedding.table.weight.shape == (9, 2)
    kinds = [type(layer) for layer in built.deep.layers]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout, nn.Linear]


def test_the_same_seed_builds_the_same_weights():
    one, other = model().state_dict(), model().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
