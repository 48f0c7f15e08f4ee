"""Settings of a model: settings that the model does not have are errors."""

from pathlib import Path

import pytest

from deepfm.errors import UserError
from deepfm.model_factory import build_model
from deepfm.models.deepfm import DeepFM
from deepfm.models.dnn import DNN
from deepfm.models.fm import FM
from deepfm.models.fm_dnn import FMDNN
from deepfm.models.fnn import FNN
from deepfm.models.lr import LogisticRegression
from deepfm.models.pnn import PNN
from deepfm.models.wide_deep import WideDeep
from deepfm.settings.loader import load_settings, parse_settings
from deepfm.settings.model import DeepPartSettings, FtrlSettings, ModelSettings, TrainingSettings

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
TRAINING = {"batch_size": 64, "max_epochs": 2, "learning_rate": 0.01}
FTRL = {**TRAINING, "optimizer": "ftrl"}
WITH_DEEP_PART = ("fnn", "ipnn", "opnn", "pnn", "wide_deep", "fm_dnn", "dnn", "deepfm")


def settings(model, **changes):
    content = {"model": model, "training": TRAINING, **({} if model == "lr" else {"embedding_dim": 4})}
    return parse_settings({**content, **changes}, ModelSettings, "model.yaml")


def errors_of(model, **changes):
    with pytest.raises(UserError) as caught:
        settings(model, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the files of conf/model


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("lr", LogisticRegression),
        ("fm", FM),
        ("fnn", FNN),
        ("ipnn", PNN),
        ("opnn", PNN),
        ("pnn", PNN),
        ("wide_deep", WideDeep),
        ("fm_dnn", FMDNN),
        ("dnn", DNN),
        ("deepfm", DeepFM),
    ],
)
def test_each_models_file_is_named_after_it_and_builds_its_class(name, model_class):
    loaded = load_settings(CONF / f"{name}.yaml", ModelSettings)
    assert loaded.model == name
    assert type(build_model(loaded, (3, 4))) is model_class


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_of_a_file_survive_a_round_trip(path):
    loaded = load_settings(path, ModelSettings)
    assert parse_settings(loaded.model_dump(mode="json"), ModelSettings, "again") == loaded


# --- defaults


@pytest.mark.parametrize("model", WITH_DEEP_PART)
def test_the_default_deep_part_is_that_of_the_paper(model):
    assert settings(model).deep == DeepPartSettings(hidden_units=(400, 400, 400), activation="relu")


@pytest.mark.parametrize("model", ["lr", "fm"])
def test_lr_and_fm_have_no_deep_part(model):
    assert settings(model).deep is None


@pytest.mark.parametrize("model", ["opnn", "pnn"])
def test_outer_products_are_pairwise_unless_pooled_is_set(model):
    assert settings(model).outer == "pairs"
    assert settings(model, outer="pooled").outer == "pooled"


def test_adam_is_the_default_optimizer():
    assert (settings("lr").training.optimizer, settings("lr").training.ftrl) == ("adam", None)
    assert settings("lr", training=FTRL).training.ftrl == FtrlSettings(beta=1.0, l1=0.0, l2=0.0)
    assert settings("lr", training={**FTRL, "ftrl": {"l1": 2}}).training.ftrl == FtrlSettings(l1=2.0)


def test_the_first_stage_of_an_fnn_is_an_fm_with_its_embeddings_and_regularization():
    fnn = settings("fnn", init_std=0.001, w_reg=0.1, v_reg=0.2)
    assert fnn.earlier_stages()[0] == settings("fm", init_std=0.001, w_reg=0.1, v_reg=0.2)


def test_the_first_stage_of_an_fnn_may_have_other_training_settings():
    pretraining = {**TRAINING, "learning_rate": 0.5}
    first_stage = settings("fnn", pretraining=pretraining).earlier_stages()[0]
    assert first_stage == settings("fm", training=pretraining)


# --- errors


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("lr", {"embedding_dim": 4}, "embedding_dim, v_reg, init_std: lr has no embeddings"),
        ("lr", {"v_reg": 0.1}, "embedding_dim, v_reg, init_std: lr has no embeddings"),
        ("lr", {"init_std": 0.1}, "embedding_dim, v_reg, init_std: lr has no embeddings"),
        ("fm", {"embedding_dim": None}, "embedding_dim is missing"),
        ("deepfm", {"embedding_dim": None}, "embedding_dim is missing"),
        ("lr", {"deep": {"hidden_units": [4]}}, "deep: lr has no deep part"),
        ("fm", {"deep": {}}, "deep: fm has no deep part"),
        ("ipnn", {"outer": "pairs"}, "outer: ipnn has no such setting, only opnn and pnn"),
        ("deepfm", {"outer": "pooled"}, "outer: deepfm has no such setting"),
        ("opnn", {"outer": "all"}, "outer: Input should be 'pairs' or 'pooled' (found 'all')"),
        ("fm", {"pretraining": TRAINING}, "pretraining: only for fnn and training.recipe: staged"),
        ("fm", {"training": FTRL}, "training.optimizer: ftrl trains lr only"),
        ("fnn", {"training": FTRL}, "training.optimizer: ftrl trains lr only"),
        ("lr", {"training": {**TRAINING, "ftrl": {}}}, "training: ftrl: only for optimizer: ftrl"),
        ("lr", {"training": {**FTRL, "ftrl": {"l1": -1}}}, "training.ftrl.l1: Input should be greater than"),
        ("lr", {"training": {**FTRL, "ftrl": {"l3": 1}}}, "unknown key training.ftrl.l3"),
        (
            "fm",
            {"training": {**TRAINING, "wire": "bf16"}},
            "unknown key training.wire: it was renamed to gradient_compression",
        ),
        ("lr", {"training": {**TRAINING, "optimizer": "sgd"}}, "training.optimizer: Input should be 'adam'"),
        (
            "dnn",
            {"deep": {"batch_norm": True}, "training": {**TRAINING, "batch_size": 3}},
            "training.batch_size: batch_norm needs at least 4",
        ),
        ("dnn", {"deep": {"activation": "gelu"}}, "deep.activation: Input should be 'relu', 'tanh'"),
        ("dnn", {"deep": {"hidden_units": [4, 0]}}, "deep.hidden_units.1: Input should be greater than"),
        ("dnn", {"deep": {"dropout": 1}}, "deep.dropout: Input should be less than 1"),
    ],
)
def test_an_invalid_setting_is_named(model, changes, message):
    assert message in errors_of(model, **changes)


def test_settings_that_a_model_does_not_have_are_reported_at_once():
    message = errors_of(
        "lr", embedding_dim=4, deep={"hidden_units": [4]}, outer="pairs", pretraining=TRAINING
    )
    for error in ("embedding_dim, v_reg, init_std: lr", "deep: lr", "outer: lr", "pretraining: only for fnn"):
        assert error in message


def test_an_unknown_model_is_reported_with_the_known_ones():
    message = errors_of("deepcross")
    assert message.startswith("model.yaml: 1 error: model: Input should be 'lr', 'fm', 'fnn'")
    assert message.endswith("(found 'deepcross')")


@pytest.mark.parametrize("model", [None, 3, ["lr"]])
def test_a_model_that_is_not_a_name_is_an_error(model):
    assert "model: Input should be" in errors_of(model)


def test_a_file_without_a_model_is_an_error():
    with pytest.raises(UserError, match=r"^model.yaml: 1 error: model is missing$"):
        parse_settings({"training": TRAINING}, ModelSettings, "model.yaml")


# --- keys without a value, as YAML reads `deep:`


def test_a_key_without_a_value_counts_as_absent():
    assert settings("deepfm", deep=None).deep == DeepPartSettings()
    assert settings("opnn", outer=None).outer == "pairs"
    assert settings("lr", training={**FTRL, "ftrl": None}).training.ftrl == FtrlSettings()


def test_ftrl_cannot_train_a_first_stage():
    assert "pretraining.optimizer: ftrl trains lr only" in errors_of("fnn", pretraining=FTRL)


@pytest.mark.parametrize("model", ["ipnn", "opnn", "pnn", "dnn"])
def test_w_reg_requires_first_order_weights(model):
    assert f"w_reg: {model} has no first-order weights" in errors_of(model, w_reg=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table_l2": 0.1}, "table_l2: only for optimizer: adam_dense"),
        ({"optimizer": "adagrad", "table_l2": 0.1}, "table_l2: only for optimizer: adam_dense"),
        ({"optimizer": "ftrl", "table_learning_rate": 0.1}, "ftrl has one learning rate for all weights"),
        ({"optimizer": "ftrl", "schedule": "cosine"}, "ftrl adapts each weight's learning rate"),
        ({"optimizer": "ftrl", "warmup_steps": 5}, "ftrl adapts each weight's learning rate"),
        ({"schedule": "plateau", "patience": 2, "plateau_patience": 2}, "plateau_patience: must be below"),
        ({"precision": "fp16"}, "training.precision"),
        ({"monitor": "accuracy"}, "training.monitor"),
        ({"warmup_steps": -1}, "training.warmup_steps"),
    ],
)
def test_inconsistent_training_settings_are_named(changes, message):
    assert message in errors_of("lr", training={**TRAINING, **changes})


@pytest.mark.parametrize(
    ("key", "value"), [("seed", -1), ("learning_rate", 0), ("learning_rate", float("inf")), ("batch_size", 0)]
)
def test_training_settings_out_of_range_are_rejected(key, value):
    assert f"training.{key}" in errors_of("lr", training={**TRAINING, key: value})


def test_batch_norm_with_a_tiny_batch_is_rejected():
    message = errors_of("deepfm", deep={"batch_norm": True}, training={**TRAINING, "batch_size": 2})
    assert "batch_norm needs at least 4" in message


def test_plateau_patience_may_exceed_patience_without_early_stopping():
    TrainingSettings(batch_size=8, max_epochs=5, learning_rate=0.1, schedule="plateau", keep="last")
    with pytest.raises(ValueError, match="must be below patience"):
        TrainingSettings(batch_size=8, max_epochs=5, learning_rate=0.1, schedule="plateau")


def test_a_seed_must_be_accepted_by_torch():
    with pytest.raises(ValueError, match="seed"):
        TrainingSettings(batch_size=8, max_epochs=5, learning_rate=0.1, seed=10**20)


# --- stages


@pytest.mark.parametrize(
    ("model", "stages"), [("deepfm", ["lr", "fm"]), ("fm_dnn", ["lr", "fm"]), ("wide_deep", ["lr"])]
)
def test_a_staged_model_is_trained_after_its_simpler_parts(model, stages):
    staged = settings(model, training={**TRAINING, "recipe": "staged"}, w_reg=0.1)
    assert [stage.model for stage in staged.earlier_stages()] == stages
    assert all(stage.w_reg == 0.1 and not stage.is_staged for stage in staged.earlier_stages())
    assert not settings(model).earlier_stages()


def test_the_last_stage_has_lower_rates():
    rates = {"deep_rate_factor": 0.5, "table_rate_factor": 0.1}
    last = settings("deepfm", training={**TRAINING, "recipe": "staged", **rates}).last_stage()
    assert last.training.learning_rate == pytest.approx(0.005)
    assert last.training.table_learning_rate == pytest.approx(0.001)
    assert settings("deepfm").last_stage() == settings("deepfm")


def test_earlier_stages_stop_at_the_first_epoch_without_improvement():
    training = {**TRAINING, "recipe": "staged", "patience": 4, "schedule": "plateau"}
    lr, fm = settings("deepfm", training=training).earlier_stages()
    assert (lr.training.patience, fm.training.patience, fm.training.schedule) == (1, 1, "constant")
    assert (lr.training.optimizer, fm.training.optimizer) == ("ftrl", "adam")


def test_earlier_stages_may_have_settings_of_their_own():
    training = {**TRAINING, "recipe": "staged"}
    pretraining = {**TRAINING, "patience": 3, "learning_rate": 0.5}
    lr, fm = settings("deepfm", training=training, pretraining=pretraining).earlier_stages()
    assert (lr.training.patience, fm.training.patience, fm.training.learning_rate) == (3, 3, 0.5)


@pytest.mark.parametrize("model", ["lr", "fm", "dnn", "fnn", "pnn"])
def test_models_without_simpler_parts_cannot_be_staged(model):
    error = errors_of(model, training={**TRAINING, "recipe": "staged"})
    assert f"{model} has no simpler parts; staged is for wide_deep, fm_dnn, deepfm" in error


@pytest.mark.parametrize("optimizer", ["adam_dense", "ftrl"])
def test_damping_needs_an_optimizer_of_single_rows(optimizer):
    error = errors_of("lr", training={**TRAINING, "optimizer": optimizer, "rare_id_damping": 1.0})
    assert "rare_id_damping: only for optimizer: adam or adagrad" in error
