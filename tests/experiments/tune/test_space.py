"""Search space: names and values are checked against the model settings before any training."""

from pathlib import Path

import pytest

from deepfm.errors import UserError
from deepfm.experiments.tune.space import SearchSpace
from deepfm.settings.loader import load_settings, parse_settings, yaml_text
from deepfm.settings.model import ModelSettings

CONF = Path(__file__).resolve().parents[3] / "conf"


def space_of(search="grid", **parameters):
    """space_of(deep__dropout={"values": [0]}): two underscores replace the dot."""
    named = {name.replace("__", "."): content for name, content in parameters.items()}
    return parse_settings({"search": search, "parameters": named}, SearchSpace, "space.yaml")


def test_a_choice_changes_only_the_named_settings(base):
    shapes = {"values": {"flat": [4, 4], "steep": [8, 2]}}
    space = space_of(deep__hidden_units=shapes, training__learning_rate={"values": [0.1, 0.2]})
    settings = space.settings_of(base, {"deep.hidden_units": "steep", "training.learning_rate": 0.2})
    assert settings.deep.hidden_units == (8, 2)
    assert settings.training == base.training.model_copy(update={"learning_rate": 0.2})
    assert settings.model_copy(update={"deep": base.deep, "training": base.training}) == base


def test_other_values_than_numbers_and_names_have_their_text_as_label(base):
    space = space_of(deep__hidden_units={"values": [[4, 4], [8]]})
    assert space.parameters["deep.hidden_units"].labels == ("[4, 4]", "[8]")
    assert space.settings_of(base, {"deep.hidden_units": "[8]"}).deep.hidden_units == (8,)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deep__dropuot", {"values": [0.1]}, "no model has such a setting; did you mean deep.dropout"),
        ("training__wire", {"values": ["bf16"]}, "training.wire: it was renamed to gradient_compression"),
        ("dropout", {"values": [0.1]}, "did you mean deep.dropout"),
        ("training__seed", {"values": [1, 2]}, "must be the same in all trials; use --seeds N"),
        ("training__monitor", {"values": ["auc"]}, "set it in the model YAML"),
        ("deep__dropout", {}, "expected either values or low and high"),
        ("deep__dropout", {"values": [0.1], "low": 0, "high": 1}, "expected either values or low and high"),
        ("deep__dropout", {"low": 0.5, "high": 0.1}, "low below high"),
        ("deep__dropout", {"low": 0.5}, "low and high: expected both"),
        ("deep__dropout", {"low": 0, "high": 0.5, "log": True}, "log: requires a range with low above 0"),
        ("deep__dropout", {"values": [0.1, 0.1]}, "expected each once"),
        ("deep__dropout", {"values": []}, "expected at least one"),
        ("deep__activation", {"low": 1, "high": 2}, "is not a number"),
        ("embedding_dim", {"low": 0.5, "high": 2}, "is an integer"),
        ("deep__dropout", {"value": [0.1]}, "unknown key parameters.deep.dropout.value"),
    ],
)
def test_an_invalid_parameter_is_an_error(name, content, message):
    with pytest.raises(UserError, match="space.yaml: 1 error: ") as mistake:
        space_of("tpe", **{name: content})
    assert message in str(mistake.value)


def test_a_grid_does_not_accept_a_range():
    with pytest.raises(UserError, match="a grid requires values; a range requires search: tpe"):
        space_of(deep__dropout={"low": 0.0, "high": 0.5})


@pytest.mark.parametrize(
    ("search", "content", "message"),
    [
        ("grid", {"values": [0.1, 1.5]}, r"deep\.dropout = 1\.5: 1 error: deep\.dropout: .* less than 1"),
        ("tpe", {"low": 0.0, "high": 1.5}, r"deep\.dropout = 1\.5"),
        ("grid", {"values": ["much"]}, r"deep\.dropout = much"),
    ],
)
def test_a_value_that_is_invalid_for_the_model_is_an_error(base, search, content, message):
    with pytest.raises(UserError, match=message):
        space_of(search, deep__dropout=content).check(base, "space.yaml")


def test_an_invalid_combination_of_values_is_an_error(base):
    rates = {"values": [0.0, 0.1]}
    alone = space_of(training__table_l2=rates, training__optimizer={"values": ["adam_dense"]})
    alone.check(base, "space.yaml")
    both = space_of(training__table_l2=rates, training__optimizer={"values": ["adam", "adam_dense"]})
    with pytest.raises(UserError, match=r"table_l2 = 0\.1, training\.optimizer = adam: .*only for optimizer"):
        both.check(base, "space.yaml")


def test_in_a_large_space_each_value_is_checked_separately(base):
    many = {
        "deep__dropout": {"values": [n / 100 for n in range(90)]},
        "embedding_dim": {"values": list(range(1, 91))},
        "training__batch_size": {"values": [*range(1, 90), 0]},
    }
    with pytest.raises(UserError, match=r"training\.batch_size = 0"):
        space_of(**many).check(base, "space.yaml")


@pytest.mark.parametrize("path", sorted(CONF.glob("tune/*.yaml")), ids=lambda path: path.stem)
def test_the_spaces_in_conf_are_valid_for_deepfm(path):
    space = load_settings(path, SearchSpace)
    space.check(load_settings(CONF / "model/deepfm.yaml", ModelSettings), str(path))


def test_networks_of_the_shape_study_have_equally_many_units():
    """Guo et al. 2017, section 3.3: constant, increasing, decreasing, diamond."""
    shapes = load_settings(CONF / "tune/shape.yaml", SearchSpace).parameters["deep.hidden_units"].values
    assert {name: sum(units) for name, units in shapes.items()} == dict.fromkeys(
        ("constant", "increasing", "decreasing", "diamond"), 600
    )


def test_settings_are_equal_after_a_round_trip_through_yaml(base, tmp_path):
    (tmp_path / "best.yaml").write_text(yaml_text(base))
    assert load_settings(tmp_path / "best.yaml", ModelSettings) == base
    assert "hidden_units: [4]" in yaml_text(base)
