"""Layers compared with their definitions."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deepfm.models.layers import (
    MLP,
    FieldEmbedding,
    LinearTerms,
    fm_and_flatten,
    pairwise_interaction,
)


def pairwise_by_definition(v):
    """(B, F, K) -> (B,): sum over i < j of <v_i, v_j>, pair by pair."""
    num_impressions, num_fields, dim = v.shape
    totals = []
    for b in range(num_impressions):
        total = v.new_zeros(())
        for i, j in combinations(range(num_fields), 2):
            for k in range(dim):
                total = total + v[b, i, k] * v[b, j, k]
        totals.append(total)
    return torch.stack(totals)


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
def test_pairwise_interaction_and_its_gradient_equal_the_definition(b, f, k, seed):
    values = torch.randn(b, f, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    fast, slow = values.clone().requires_grad_(), values.clone().requires_grad_()
    actual, expected = pairwise_interaction(fast), pairwise_by_definition(slow)
    torch.testing.assert_close(actual, expected)
    # Squares, so that each impression has a different gradient.
    actual.square().sum().backward()
    (expected.square().sum() + 0 * slow.sum()).backward()  # the term with 0: one field has no pair
    torch.testing.assert_close(fast.grad, slow.grad)


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
def test_fm_and_flatten_has_the_gradient_of_both_outputs(b, f, k, seed):
    generator = torch.Generator().manual_seed(seed)
    values, weights = (torch.randn(b, f, k, dtype=torch.float64, generator=generator) for _ in range(2))
    fast, slow = values.clone().requires_grad_(), values.clone().requires_grad_()
    interaction, inputs = fm_and_flatten(fast)
    assert torch.equal(inputs, values.flatten(1))
    (interaction.square().sum() + (inputs * weights.flatten(1)).tanh().sum()).backward()
    (pairwise_by_definition(slow).square().sum() + (slow * weights).tanh().sum()).backward()
    torch.testing.assert_close(fast.grad, slow.grad)


def test_inputs_of_a_deep_part_are_bfloat16_under_autocast():
    v = torch.randn(2, 3, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        interaction, inputs = fm_and_flatten(v)
    assert (interaction.dtype, inputs.dtype) == (torch.float32, torch.bfloat16)
    (interaction.sum() + inputs.sum()).backward()
    assert v.grad.dtype == torch.float32
    torch.testing.assert_close(v.grad, v.sum(1, keepdim=True) - v + 1)


def test_pairwise_interaction_of_three_fields_equals_the_sum_computed_by_hand():
    v = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [0.0, 4.0]]])
    # <v1,v2> = 3, <v1,v3> = 8, <v2,v3> = 0
    assert pairwise_interaction(v).tolist() == pytest.approx([11.0], rel=1e-6)


def test_one_field_has_no_interaction():
    assert pairwise_interaction(torch.tensor([[[1.5, -2.0]]])).tolist() == [0.0]


def table_of_row_numbers(num_ids):
    embedding = FieldEmbedding(num_ids, 1, init_std=0.0)
    embedding.table.weight.data = torch.arange(float(sum(num_ids)))[:, None]
    return embedding


def test_each_field_has_separate_rows_of_the_table():
    embedding = table_of_row_numbers([3, 2, 4])
    ids = torch.tensor([[0, 0, 0], [2, 1, 3]])
    assert embedding(ids).squeeze(2).tolist() == [[0, 3, 5], [2, 4, 8]]


def test_a_row_is_multiplied_by_its_x():
    x = torch.tensor([[1.0, 0.5], [-2.0, 0.0]])
    assert table_of_row_numbers([3, 2])(torch.tensor([[2, 1], [1, 0]]), x).squeeze(2).tolist() == [
        [2, 2],
        [-2, 0],
    ]


def test_further_columns_are_ignored():
    embedding, ids = table_of_row_numbers([3, 2]), torch.tensor([[2, 1, 999]])
    assert embedding(ids).flatten().tolist() == [2, 4]
    assert embedding(ids, torch.tensor([[1.0, 0.5, 7.0]])).flatten().tolist() == [2, 2]


def test_a_single_field_starts_at_row_zero():
    assert table_of_row_numbers([3])(torch.tensor([[2]])).flatten().tolist() == [2]


def test_the_state_dict_of_an_embedding_contains_only_the_table():
    assert list(FieldEmbedding([3, 2], 4, init_std=0.01).state_dict()) == ["table.weight"]


def test_the_embedding_gradient_is_sparse_and_has_only_looked_up_rows():
    embedding = FieldEmbedding([3, 2], 4, init_std=0.01)
    embedding(torch.tensor([[1, 0], [1, 1]])).sum().backward()
    gradient = embedding.table.weight.grad
    assert gradient.is_sparse
    assert gradient.coalesce().indices()[0].tolist() == [1, 3, 4]
    assert gradient.coalesce().values()[:, 0].tolist() == [2, 1, 1]


def test_initial_embeddings_have_the_given_standard_deviation():
    torch.manual_seed(0)
    weights = FieldEmbedding([5000, 5000], 10, init_std=0.01).table.weight
    assert weights.std().item() == pytest.approx(0.01, rel=0.02)
    assert abs(weights.mean().item()) < 1e-4


def test_linear_terms_start_at_zero():
    assert LinearTerms([3, 2])(torch.tensor([[0, 0], [2, 1]])).tolist() == [0.0, 0.0]


def test_linear_terms_add_the_bias_and_one_weight_per_field():
    linear = LinearTerms([2, 2])
    linear.weights.table.weight.data = torch.tensor([[1.0], [2.0], [10.0], [20.0]])
    linear.bias.data.fill_(0.5)
    assert linear(torch.tensor([[0, 0], [1, 0], [1, 1]])).tolist() == [11.5, 12.5, 22.5]


def deep_part(hidden_units=(3, 2), activation="relu", dropout=0.0, batch_norm=False, num_inputs=4):
    return MLP(num_inputs, hidden_units, activation=activation, dropout=dropout, batch_norm=batch_norm)


def layer_types(mlp):
    return [type(layer) for layer in mlp.layers]


def test_a_deep_part_returns_one_logit_per_impression():
    assert deep_part()(torch.zeros(5, 4)).shape == (5,)
    assert deep_part()(torch.zeros(1, 4)).shape == (1,)


def test_a_deep_part_without_hidden_layers_is_one_linear_layer():
    mlp = deep_part(hidden_units=())
    assert [(layer.in_features, layer.out_features) for layer in mlp.layers] == [(4, 1)]


def test_layer_widths_equal_the_hidden_units():
    linear = [layer for layer in deep_part().layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(4, 3), (3, 2), (2, 1)]


def test_a_hidden_layer_has_batch_norm_activation_dropout_and_the_output_is_linear():
    mlp = deep_part((3,), "tanh", dropout=0.5, batch_norm=True)
    assert layer_types(mlp) == [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout, nn.Linear]
    assert mlp.layers[3].p == 0.5


def test_batch_norm_and_dropout_are_optional():
    assert layer_types(deep_part((3,))) == [nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize(
    ("activation", "outputs"),
    [
        ("relu", [0.0, 2.0]),
        ("tanh", [math.tanh(-1), math.tanh(2)]),
        ("sigmoid", [1 / (1 + math.e), 1 / (1 + math.exp(-2))]),
    ],
)
def test_the_setting_selects_the_activation(activation, outputs):
    mlp = deep_part((1,), activation, num_inputs=1)
    for weight in mlp.parameters():
        weight.data.fill_(float(weight.dim() > 1))
    torch.testing.assert_close(mlp(torch.tensor([[-1.0], [2.0]])), torch.tensor(outputs))


def test_initial_weights_are_xavier_uniform_and_biases_zero():
    torch.manual_seed(0)
    mlp = deep_part((400,), num_inputs=200)
    first = mlp.layers[0]
    limit = math.sqrt(6 / (200 + 400))
    assert 0.99 * limit < first.weight.abs().max().item() <= limit
    assert first.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert all(layer.bias.abs().max() == 0 for layer in mlp.layers if isinstance(layer, nn.Linear))
