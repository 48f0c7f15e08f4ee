"""Settings of the models of a comparison, and the key of a comparison."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from deepfm.errors import UserError
from deepfm.experiments.compare.plan import Comparison, load_models, with_shared_settings
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings

CONF = Path(__file__).resolve().parents[3] / "conf" / "model"
TRAINING = {"batch_size": 8, "max_epochs": 2, "learning_rate": 0.01}


def settings(model, **changes):
    sizes = {} if model == "lr" else {"embedding_dim": 4}
    return ModelSettings.model_validate({"model": model, **sizes, "training": TRAINING, **changes})


@pytest.fixture
def folder(tmp_path):
    def write(*models):
        for model in models:
            content = model.model_dump(mode="json", exclude_none=True)
            (tmp_path / f"{model.model}.yaml").write_text(yaml.safe_dump(content))
        return str(tmp_path)

    return write


LIKE = settings("deepfm", embedding_dim=9, deep={"hidden_units": [7]}, w_reg=0.1, v_reg=0.2, init_std=0.3)


def test_shared_settings_contain_sizes_penalties_and_training():
    fm = with_shared_settings(settings("fm", training={**TRAINING, "max_epochs": 5}), LIKE)
    assert (fm.embedding_dim, fm.w_reg, fm.v_reg, fm.init_std) == (9, 0.1, 0.2, 0.3)
    assert fm.training == LIKE.training
    assert with_shared_settings(settings("dnn"), LIKE).deep.hidden_units == (7,)


def test_shared_settings_add_no_parts_to_a_model():
    lr, fm = with_shared_settings(settings("lr"), LIKE), with_shared_settings(settings("fm"), LIKE)
    assert (lr.embedding_dim, lr.deep, lr.v_reg, fm.deep) == (None, None, 0.0, None)
    assert lr.init_std == settings("lr").init_std
    for shared in (lr, fm):
        assert ModelSettings.model_validate(shared.model_dump()) == shared


def test_shared_settings_keep_the_products_of_a_model():
    assert with_shared_settings(settings("opnn", outer="pooled"), LIKE).outer == "pooled"


def test_shared_settings_keep_ftrl_and_its_rate_for_lr():
    training = {"batch_size": 1, "max_epochs": 9, "learning_rate": 0.7, "optimizer": "ftrl"}
    shared = with_shared_settings(settings("lr", training=training), LIKE).training
    assert (shared.optimizer, shared.learning_rate, shared.ftrl.beta) == ("ftrl", 0.7, 1.0)
    assert (shared.batch_size, shared.max_epochs) == (8, 2)


@pytest.mark.parametrize("schedule", [{"schedule": "cosine"}, {"warmup_steps": 5}])
def test_shared_settings_keep_the_constant_rate_of_ftrl(schedule):
    training = {**TRAINING, "optimizer": "ftrl"}
    shared = with_shared_settings(
        settings("lr", training=training), settings("deepfm", training={**TRAINING, **schedule})
    )
    assert (shared.training.schedule, shared.training.warmup_steps) == ("constant", 0)


@pytest.mark.parametrize(
    ("model", "like", "part"),
    [("fm", "lr", "embedding_dim"), ("deepfm", "lr", "embedding_dim"), ("dnn", "fm", "deep")],
)
def test_a_like_without_what_a_model_needs_is_rejected(model, like, part):
    with pytest.raises(
        UserError, match=f"^--like: expected the YAML of a model with {part}, which {model} needs"
    ):
        with_shared_settings(settings(model), settings(like))


def test_lr_without_embedding_size_is_comparable(folder):
    assert len(load_models(["lr", "fm"], folder(settings("lr"), settings("fm")), None)) == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"embedding_dim": 5}, "embedding_dim"),
        ({"deep": {"hidden_units": [9]}}, "deep.hidden_units"),
        ({"training": {**TRAINING, "max_epochs": 7}}, "training.max_epochs"),
        ({"training": {**TRAINING, "batch_size": 7}}, "training.batch_size"),
    ],
)
def test_models_that_differ_in_size_or_budget_are_rejected(folder, change, named):
    with pytest.raises(UserError, match=named):
        load_models(["dnn", "deepfm"], folder(settings("dnn"), settings("deepfm", **change)), None)


@pytest.mark.parametrize(("key", "value"), [("precision", "bf16"), ("keep", "last"), ("monitor", "auc")])
def test_models_with_other_precision_or_model_selection_are_rejected(folder, key, value):
    """Otherwise times or metrics would not be comparable."""
    models = settings("fm"), settings("dnn", training={**TRAINING, key: value})
    with pytest.raises(UserError, match=f"training.{key}"):
        load_models(["fm", "dnn"], folder(*models), None)


def test_two_settings_of_one_model_are_rejected(folder):
    """Table and saved results are keyed by model, so one would replace the other."""
    path = folder(settings("fm"))
    Path(path, "quick.yaml").write_text(Path(path, "fm.yaml").read_text())
    with pytest.raises(UserError, match="found fm and quick; keep one of them"):
        load_models(["fm", "quick"], path, None)


def test_the_models_compared_by_default_have_comparable_settings():
    names = ["lr", "fm", "fnn", "ipnn", "opnn", "pnn", "wide_deep", "fm_dnn", "deepfm"]
    folder = Path(__file__).resolve().parents[3] / "conf" / "model"
    assert [model.model for model in load_models(names, str(folder), None)] == names


def test_like_makes_differing_models_comparable(folder):
    models = load_models(["dnn", "fm"], folder(settings("dnn"), settings("fm", embedding_dim=5)), LIKE)
    assert {model.embedding_dim for model in models} == {9}


COMPARISON = Comparison("file:///d", SimpleNamespace(digest="d"), (settings("lr"), settings("fm")), 1, 2)


def test_the_key_does_not_depend_on_the_location_of_the_dataset():
    assert replace(COMPARISON, dataset_url="file:///elsewhere").key == COMPARISON.key


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": SimpleNamespace(digest="e")},
        {"models": (settings("lr"), settings("fm", v_reg=0.1))},
        {"num_seeds": 2},
        {"num_workers": 0},
    ],
)
def test_other_rows_settings_seeds_or_workers_change_the_key(change):
    assert replace(COMPARISON, **change).key != COMPARISON.key


def test_models_are_trained_jointly_and_without_damping_as_in_their_papers():
    like = load_settings(CONF / "deepfm.yaml", ModelSettings)
    assert like.training.recipe == "staged" and like.training.rare_id_damping
    for shared in (None, like):
        for settings in load_models(["lr", "fm", "deepfm"], str(CONF), shared):
            assert settings.training.recipe == "joint" and not settings.training.rare_id_damping
