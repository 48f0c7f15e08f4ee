"""Common behaviour of all models: inputs and outputs, weights, and L2 penalties."""

from typing import get_args

import pytest
import torch

from deepfm.model_factory import build_model
from deepfm.model_specs import MODELS as MODEL_SPECS
from deepfm.models.layers import penalties
from deepfm.settings.model import ModelName, ModelSettings
from deepfm.training.optimizers.weights import field_embeddings
from deepfm.weights import load_weights, save_weights

NUM_IDS = (3, 4, 2)
OFFSETS = (0, 3, 7)
IDS = torch.tensor([[0, 0, 0], [2, 3, 1], [1, 1, 0], [2, 0, 1]])
X = torch.tensor([[1.0, 0.5, -2.0], [1.0, 0.0, 1.0], [1.0, 3.0, 0.1], [1.0, -1.0, 2.5]])
CROSSED_IDS = torch.tensor([[0, 4], [1, 0], [0, 2], [1, 3]])  # of two crossed fields with 2 and 5 ids

DEEP = {"embedding_dim": 2, "deep": {"hidden_units": [5, 4], "activation": "tanh"}}
MODELS = {
    "lr": {},
    "fm": {"embedding_dim": 2},
    "fnn": DEEP,
    "ipnn": DEEP,
    "opnn": {**DEEP, "outer": "pairs"},
    "opnn pooled": {**DEEP, "outer": "pooled"},
    "pnn": {**DEEP, "outer": "pairs"},
    "pnn pooled": {**DEEP, "outer": "pooled"},
    "wide_deep": DEEP,
    "fm_dnn": DEEP,
    "dnn": DEEP,
    "deepfm": DEEP,
}
W, V, DEEP_V = "linear.weights.table.weight", "embedding.table.weight", "deep_embedding.table.weight"
TABLES = {
    "lr": {W},
    "fm": {W, V},
    "fnn": {W, V},
    "ipnn": {V},
    "opnn": {V},
    "pnn": {V},
    "wide_deep": {W, V},
    "fm_dnn": {W, V, DEEP_V},
    "dnn": {V},
    "deepfm": {W, V},
}


def build(name, *, seed=0, crossed=()):
    settings = {"model": name.split()[0], **MODELS[name]}
    settings["training"] = {"batch_size": 4, "max_epochs": 1, "learning_rate": 0.1}
    torch.manual_seed(seed)
    return build_model(ModelSettings.model_validate(settings), [*NUM_IDS, *crossed], len(crossed))


def randomized(name, **shape):
    """Build with random weights: with weights near zero, a forgotten term would not be visible."""
    model = build(name, **shape)
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    return model


every_model = pytest.mark.parametrize("name", MODELS)


def test_these_tests_cover_all_models():
    assert {name.split()[0] for name in MODELS} == set(TABLES) == set(get_args(ModelName))


# Impressions to logits


@every_model
@pytest.mark.parametrize("x", [None, X], ids=["ids", "ids and values"])
def test_a_model_returns_one_float32_logit_per_impression(name, x):
    logits = randomized(name)(IDS, x)
    assert (logits.shape, logits.dtype) == ((4,), torch.float32)


@every_model
def test_a_batch_may_have_one_impression(name):
    assert randomized(name)(IDS[:1], X[:1]).shape == (1,)


@every_model
def test_outputs_are_logits_and_not_probabilities(name):
    model = build(name)
    last_bias = model.deep.layers[-1].bias if "deep" in dict(model.named_children()) else model.linear.bias
    last_bias.data.fill_(-7.0)
    assert model(IDS).max() < -6


@every_model
def test_without_x_all_x_are_one(name):
    model = randomized(name)
    torch.testing.assert_close(model(IDS), model(IDS, torch.ones(4, 3)))


@every_model
def test_a_logit_does_not_depend_on_the_rest_of_the_batch(name):
    model = randomized(name)
    torch.testing.assert_close(model(IDS, X)[2:3], model(IDS[2:3], X[2:3]))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "wide_deep"])
def test_other_models_ignore_crossed_fields(name):
    model = randomized(name, crossed=(2, 5))
    with_crossed = model(torch.cat([IDS, CROSSED_IDS], dim=1), torch.cat([X, torch.ones(4, 2)], dim=1))
    assert torch.equal(with_crossed, model(IDS, X))


def test_wide_and_deep_uses_crossed_fields():
    model = randomized("wide_deep", crossed=(2, 5))
    logits = model(torch.cat([IDS, CROSSED_IDS], dim=1))
    assert not torch.isclose(logits, model(torch.cat([IDS, CROSSED_IDS.flip(0)], dim=1))).any()


# Weights


@every_model
def test_the_same_seed_builds_the_same_weights(name):
    one, other = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "lr"])
def test_another_seed_builds_different_weights(name):
    assert not torch.equal(build(name).state_dict()[V], build(name, seed=1).state_dict()[V])


@every_model
def test_tables_have_sparse_gradients_and_other_weights_dense_gradients(name):
    model = randomized(name)
    model(IDS, X).sum().backward()
    sparse = {key for key, weight in model.named_parameters() if weight.grad.is_sparse}
    assert sparse == TABLES[name.split()[0]]


@every_model
def test_saved_and_loaded_weights_give_the_same_logits(name, tmp_path):
    model, url = randomized(name, crossed=(2, 5)), f"file://{tmp_path}/weights.safetensors"
    ids = torch.cat([IDS, CROSSED_IDS], dim=1)
    save_weights(url, model.state_dict())
    other = randomized(name, seed=1, crossed=(2, 5))
    assert not torch.equal(other(ids), model(ids))
    other.load_state_dict(load_weights(url))
    assert torch.equal(other(ids), model(ids))


# Penalty


@every_model
@pytest.mark.parametrize(("w_reg", "v_reg"), [(0.1, 0.01), (0.1, 0.0), (0.0, 0.01)])
def test_penalties_apply_to_first_order_weights_and_embeddings_only(name, w_reg, v_reg):
    model = randomized(name)
    names = {id(weight): key for key, weight in model.named_parameters()}
    actual = {names[id(table.table.weight)]: strength for table, strength in penalties(model, w_reg, v_reg)}
    strengths = {W: w_reg, V: v_reg, DEEP_V: v_reg}
    expected = {key: strengths[key] for key in TABLES[name.split()[0]] if strengths[key]}
    assert actual == expected


@every_model
def test_each_lookup_takes_the_row_of_its_field(name):
    model = randomized(name, crossed=(2, 5))
    ids = torch.cat([IDS, CROSSED_IDS], dim=1)
    offsets = [*OFFSETS, sum(NUM_IDS), sum(NUM_IDS) + 2]
    for table in field_embeddings(model):
        expected = [
            o + i for row in ids.tolist() for o, i in zip(offsets[: table.num_slots], row, strict=False)
        ]
        assert table.table_rows(ids).tolist() == expected


@pytest.mark.parametrize("name", [name for name, spec in MODEL_SPECS.items() if spec.stages])
@pytest.mark.parametrize("num_crossed", [0, 1])
def test_a_staged_model_starts_with_the_logits_of_its_simpler_parts(name, num_crossed):
    ids, num_ids = torch.tensor([[0, 2, 1], [1, 0, 4]]), (2, 3, 5)
    num_fields = 3 - num_crossed

    def build(model):
        own = {} if model == "lr" else {"embedding_dim": 2, "init_std": 1.0}
        training = {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.1}
        return build_model(ModelSettings(model=model, **own, training=training), num_ids, num_crossed)

    weights = None
    for stage in [*MODEL_SPECS[name].stages, name]:
        model = build(stage)
        if weights is None:
            for weight in model.parameters():
                torch.nn.init.normal_(weight)
            logits = model(ids[:, :num_fields])
        else:
            model.start_from(weights)
            if stage == "fm":  # its embeddings start near zero, not at zero
                torch.nn.init.normal_(model.embedding.table.weight)
                logits = model(ids)
            torch.testing.assert_close(model(ids), logits)
        weights = model.state_dict()
