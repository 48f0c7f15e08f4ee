"""Interactions of fields of functions with known results."""

import pytest
import torch

from deepfm.analysis.interactions import interaction_strengths, pair_effect
from deepfm.models.deepfm import DeepFM
from deepfm.models.layers import pairwise_interaction

#: Three fields of one column each; every combination of four ids occurs equally often.
SLOTS = [slice(0, 1), slice(1, 2), slice(2, 3)]
IDS = torch.cartesian_prod(*[torch.arange(4)] * 3).repeat(100, 1)
#: Mean 0 and variance 1 over the ids.
EFFECT = torch.tensor([1.0, -1.0, 1.0, -1.0])


def field_effect(ids, field):
    return EFFECT[ids[:, field]]


def test_additive_fields_have_no_interaction():
    strengths = interaction_strengths(lambda ids, x: field_effect(ids, 0) + ids[:, 1] ** 2, IDS, None, SLOTS)
    assert strengths.max() < 1e-6


def test_the_interaction_of_a_product_is_its_standard_deviation_whatever_is_added():
    def logit(ids, x):
        return 0.3 * field_effect(ids, 0) * field_effect(ids, 2) + 5.0 * field_effect(ids, 0) + ids[:, 1]

    strengths = interaction_strengths(logit, IDS, None, SLOTS)
    assert strengths[0, 2] == pytest.approx(0.3, rel=0.05)
    assert strengths[0, 1] == pytest.approx(0, abs=1e-5) and strengths[1, 2] == pytest.approx(0, abs=1e-5)
    assert torch.equal(strengths, strengths.T)
    assert strengths.diagonal().sum() == 0


def test_a_product_of_three_fields_counts_for_each_of_their_pairs():
    strengths = interaction_strengths(
        lambda ids, x: field_effect(ids, 0) * field_effect(ids, 1) * field_effect(ids, 2), IDS, None, SLOTS
    )
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert strengths[i, j] == pytest.approx(1.0, rel=0.05)


def test_lists_and_x_are_exchanged_together():
    """Field 0 is a list of two equal columns; x of field 1 is its id."""
    ids = IDS[:, [0, 0, 1]]
    x = torch.ones(ids.shape)
    x[:, 2] = ids[:, 2]

    def logit(ids, x):
        assert torch.equal(ids[:, 0], ids[:, 1])
        assert torch.equal(ids[:, 2].float(), x[:, 2])
        return x[:, 2] * field_effect(ids, 0)

    strengths = interaction_strengths(logit, ids, x, [slice(0, 2), slice(2, 3)])
    # The standard deviation of 0, 1, 2, 3 is the root of 1.25.
    assert strengths[0, 1] == pytest.approx(1.25**0.5, rel=0.05)


def test_impressions_and_model_are_not_modified():
    torch.manual_seed(0)
    model, ids = DeepFM([4, 4, 4], 2, hidden_units=(3,)), IDS.clone()
    before = model(ids)
    interaction_strengths(model, ids, None, SLOTS)
    pair_effect(model, ids, None, (0, 1), (range(4), range(4)))
    assert torch.equal(ids, IDS) and torch.equal(model(ids), before)


def test_the_effect_of_a_pair_excludes_the_effects_of_its_single_fields():
    table = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # rows and columns of mean 0

    def logit(ids, x):
        first, second = ids[:, 0] % 2, ids[:, 1] % 2
        return table[first, second] + 3.0 * first - 2.0 * second + field_effect(ids, 2)

    effect = pair_effect(logit, IDS, None, (0, 1), ([0, 1], [0, 1]))
    assert effect.tolist() == [pytest.approx(row, abs=1e-6) for row in table.tolist()]


def test_the_effect_of_a_pair_in_an_fm_is_the_product_of_centred_embeddings():
    torch.manual_seed(0)
    model = DeepFM([4, 4, 4], 2, init_std=1.0, hidden_units=(3,))
    first, second = model.embedding.table.weight.detach().view(3, 4, 2)[:2]
    expected = (first - first.mean(0)) @ (second - second.mean(0)).T
    fm = lambda ids, x: pairwise_interaction(model.embedding(ids, x))  # noqa: E731
    effect = pair_effect(fm, IDS, None, (0, 1), (range(4), range(4)))
    assert torch.allclose(effect.float(), expected, atol=1e-5)
