"""The number of weights of each model equals the formula in its docstring."""

from itertools import pairwise
from typing import get_args

import pytest

from deepfm.model_factory import build_model
from deepfm.settings.model import ModelName, ModelSettings


def mlp(num_inputs, hidden_units):
    """(inputs + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1)."""
    return sum((a + 1) * b for a, b in pairwise([num_inputs, *hidden_units, 1]))


#: n ids, F fields, K, P pairs, hidden units h.
FORMULAS = {
    "lr": lambda n, f, k, p, h: n + 1,
    "fm": lambda n, f, k, p, h: n * (k + 1) + 1,
    "fnn": lambda n, f, k, p, h: n * (k + 1) + 1 + mlp(1 + f * (k + 1), h),
    "ipnn": lambda n, f, k, p, h: n * k + mlp(f * k + p, h),
    "opnn pairs": lambda n, f, k, p, h: n * k + p * k**2 + mlp(f * k + p, h),
    "opnn pooled": lambda n, f, k, p, h: n * k + mlp(f * k + k**2, h),
    "pnn pairs": lambda n, f, k, p, h: n * k + p * k**2 + mlp(f * k + p + p, h),
    "pnn pooled": lambda n, f, k, p, h: n * k + mlp(f * k + p + k**2, h),
    "wide_deep": lambda n, f, k, p, h: n * (k + 1) + 1 + mlp(f * k, h),
    "fm_dnn": lambda n, f, k, p, h: n * (2 * k + 1) + 1 + mlp(f * k, h),
    "dnn": lambda n, f, k, p, h: n * k + mlp(f * k, h),
    "deepfm": lambda n, f, k, p, h: n * (k + 1) + 1 + mlp(f * k, h),
}


def build(name, num_ids, k, hidden_units, num_crossed=0):
    model_name, *outer = name.split()
    settings = {"model": model_name, "training": {"batch_size": 4, "max_epochs": 1, "learning_rate": 0.1}}
    if model_name != "lr":
        settings["embedding_dim"] = k
    if model_name not in ("lr", "fm"):
        settings["deep"] = {"hidden_units": hidden_units}
    if outer:
        settings["outer"] = outer[0]
    return build_model(ModelSettings.model_validate(settings), num_ids, num_crossed)


def num_weights(model):
    return sum(weight.numel() for weight in model.parameters())


def test_each_model_has_a_formula():
    assert {name.split()[0] for name in FORMULAS} == set(get_args(ModelName))


@pytest.mark.parametrize(
    ("num_ids", "k", "hidden_units"),
    [((3, 4, 2), 2, (5, 4)), ((6,), 3, (7,)), ((2, 2, 3, 5), 1, (3, 3, 3)), ((3, 4), 4, ())],
    ids=str,
)
@pytest.mark.parametrize("name", FORMULAS)
def test_the_number_of_weights_equals_the_formula(name, num_ids, k, hidden_units):
    f = len(num_ids)
    expected = FORMULAS[name](sum(num_ids), f, k, f * (f - 1) // 2, hidden_units)
    assert num_weights(build(name, num_ids, k, hidden_units)) == expected


@pytest.mark.parametrize("name", FORMULAS)
def test_a_crossed_id_adds_one_weight_to_wide_and_deep_and_none_to_other_models(name):
    without = num_weights(build(name, (3, 4, 2), 2, (5,)))
    crossed = num_weights(build(name, (3, 4, 2, 10, 7), 2, (5,), num_crossed=2))
    assert crossed - without == (17 if name == "wide_deep" else 0)


def test_batch_norm_adds_a_scale_and_a_shift_per_unit():
    settings = {"model": "dnn", "embedding_dim": 2, "deep": {"hidden_units": [5, 4], "batch_norm": True}}
    settings["training"] = {"batch_size": 4, "max_epochs": 1, "learning_rate": 0.1}
    with_norm = build_model(ModelSettings.model_validate(settings), (3, 4, 2))
    assert num_weights(with_norm) - num_weights(build("dnn", (3, 4, 2), 2, (5, 4))) == 2 * (5 + 4)
