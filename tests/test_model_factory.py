"""Construction of a model from its settings."""

import pytest
from torch import nn

from deepfm.model_factory import build_model
from deepfm.models.pnn import InnerProducts, OuterProducts, PooledOuterProduct
from deepfm.settings.model import ModelSettings

NUM_IDS = (3, 4, 2)


def build(name, num_crossed=0, **settings):
    training = {"batch_size": 4, "max_epochs": 1, "learning_rate": 0.1}
    content = {"model": name, "embedding_dim": 2, "training": training, **settings}
    return build_model(ModelSettings.model_validate(content), NUM_IDS, num_crossed)


@pytest.mark.parametrize("name", ["fnn", "ipnn", "opnn", "pnn", "wide_deep", "fm_dnn", "dnn", "deepfm"])
def test_the_deep_part_has_the_layers_of_the_settings(name):
    deep = {"hidden_units": [5], "activation": "tanh", "dropout": 0.3, "batch_norm": True}
    layers = build(name, deep=deep).deep.layers
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout, nn.Linear]
    assert (layers[0].out_features, layers[3].p) == (5, 0.3)


@pytest.mark.parametrize("name", ["fm", "fnn", "ipnn", "opnn", "pnn", "wide_deep", "fm_dnn", "dnn", "deepfm"])
def test_embeddings_have_the_dimension_of_the_settings(name):
    assert build(name).embedding.table.weight.shape == (9, 2)


@pytest.mark.parametrize(
    ("name", "outer", "products"),
    [
        ("ipnn", {}, [InnerProducts]),
        ("opnn", {"outer": "pairs"}, [OuterProducts]),
        ("opnn", {"outer": "pooled"}, [PooledOuterProduct]),
        ("pnn", {"outer": "pairs"}, [InnerProducts, OuterProducts]),
        ("pnn", {"outer": "pooled"}, [InnerProducts, PooledOuterProduct]),
    ],
)
def test_a_pnn_has_the_products_of_its_name_and_settings(name, outer, products):
    assert [type(product) for product in build(name, **outer).products] == products


def test_the_last_fields_are_the_crossed_fields():
    net = build("wide_deep", num_crossed=1)
    assert net.embedding.num_fields == 2
    assert net.embedding.table.weight.shape == (3 + 4, 2)
    assert net.linear.weights.table.weight.shape == (3 + 4 + 2, 1)
