"""--set in the jobs."""

import logging

import pytest

from deepfm.cli.options.model_overrides import override_models
from deepfm.errors import UserError
from deepfm.settings.loader import parse_settings
from deepfm.settings.model import ModelSettings

TRAINING = {"batch_size": 8, "max_epochs": 2, "learning_rate": 0.01}


@pytest.fixture
def compared():
    own = ({"model": "lr"}, {"model": "fm", "embedding_dim": 2}, {"model": "deepfm", "embedding_dim": 2})
    return [parse_settings({**one, "training": TRAINING}, ModelSettings, "a model") for one in own]


def test_a_training_setting_applies_to_all_compared_models(compared):
    models = override_models(compared, ["training.max_epochs=5"])
    assert [one.training.max_epochs for one in models] == [5, 5, 5]


def test_a_setting_applies_to_the_compared_models_that_have_it(compared, caplog):
    caplog.set_level(logging.INFO)
    models = override_models(compared, ["deep.dropout=0.5", "embedding_dim=3"])
    assert [one.embedding_dim for one in models] == [None, 3, 3]
    assert [one.deep and one.deep.dropout for one in models] == [None, None, 0.5]
    assert "--set deep.dropout=0.5: not for lr, fm, which lack this setting" in caplog.text


def test_a_setting_that_no_compared_model_has_is_an_error(compared):
    with pytest.raises(UserError, match="--set outer=pairs: none of lr, fm, deepfm has this setting"):
        override_models(compared, ["outer=pairs"])


def test_an_unknown_setting_of_compared_models_is_an_error(compared):
    with pytest.raises(UserError, match="lr --set epochs=3: 1 error: unknown key epochs: did you mean"):
        override_models(compared, ["epochs=3"])


def test_a_training_runs_with_the_value_of_the_flag(run_job, small_dataset, models, store):
    name = "set_learning_rate"
    flags = ["--dataset", small_dataset, "--model", models() / "lr.yaml", "--num-workers", 0, "--name", name]
    summary = run_job("train", *flags, "--set", "training.learning_rate=0.002").summary
    run = store.client.get_run(summary["run_id"])
    assert run.data.params["training.learning_rate"] == "0.002"


def test_a_dataset_records_the_value_of_the_flag(run_job, small_dataset, tmp_path):
    flags = ["--data", small_dataset.parent / "data.yaml", "--input", small_dataset.parent / "log"]
    days = [f"--{part}-days=2026-01-0{n}" for n, part in enumerate(("train", "valid", "test"), start=1)]
    done = run_job(
        "build_features", *flags, *days, "--output", tmp_path / "d", "--set", "max_bad_fraction=0.5"
    )
    assert done.status == 0, done.stderr
    assert '"max_bad_fraction": 0.5' in (tmp_path / "d/manifest.json").read_text()


def test_a_setting_that_a_study_searches_cannot_be_set(run_job, small_dataset, models, tmp_path):
    (tmp_path / "space.yaml").write_text(
        "search: grid\nparameters: {training.learning_rate: {values: [0.1, 0.2]}}\n"
    )
    flags = ["--dataset", small_dataset, "--model", models() / "lr.yaml", "--space", tmp_path / "space.yaml"]
    message = run_job("tune", *flags, "--set", "training.learning_rate=0.3").mistake
    assert "--set training.learning_rate=0.3: expected a setting that --space does not search" in message
