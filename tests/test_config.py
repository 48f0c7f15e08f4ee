"""Settings from YAML: typed, frozen, and every mistake of a file told at once."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from deepfm.config import load_settings, parse_settings
from deepfm.data_settings import DataSettings
from deepfm.errors import UserError
from deepfm.model_settings import ModelSettings
from deepfm.profile import Profile

CONF = Path(__file__).resolve().parent.parent / "conf"

MODEL = {
    "model": "deepfm",
    "embedding_dim": 8,
    "training": {"batch_size": 64, "max_epochs": 2, "learning_rate": 0.001},
}


@pytest.mark.parametrize(
    ("folder", "settings_class"), [("data", DataSettings), ("model", ModelSettings), ("profile", Profile)]
)
def test_every_file_in_conf_is_valid(folder, settings_class):
    paths = sorted((CONF / folder).glob("*.yaml"))
    assert paths
    for path in paths:
        load_settings(path, settings_class)


def test_all_mistakes_are_listed_at_once():
    mistaken = {
        "model": "deepfm",
        "embedding_dim": 0,
        "embeding_dim": 8,
        "training": {"batch_size": "many", "max_epochs": 2},
    }
    with pytest.raises(UserError) as caught:
        parse_settings(mistaken, ModelSettings, "file.yaml")
    message = str(caught.value)
    assert message.startswith("file.yaml: 4 mistakes: ")
    assert "embedding_dim: Input should be greater than or equal to 1 (found 0)" in message
    assert "unknown key embeding_dim: did you mean embedding_dim?" in message
    assert "training.batch_size: Input should be a valid integer" in message
    assert "training.learning_rate is missing" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("settings_class", "mistaken", "told"),
    [
        (
            ModelSettings,
            {"training": {"batchsize": 1}},
            "training.batchsize: did you mean training.batch_size?",
        ),
        # Its indent was lost.
        (ModelSettings, {"batch_size": 64}, "key batch_size: did you mean training.batch_size?"),
        (
            DataSettings,
            {"fields": [{"kind": "category", "names": ["C"], "mincount": 2}]},
            "mincount: did you mean fields.min_count?",
        ),
        (Profile, {"colour": "blue"}, "key colour: remove it or check its spelling"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(settings_class, mistaken, told):
    with pytest.raises(UserError, match=re.escape(told)):
        parse_settings(mistaken, settings_class, "file.yaml")


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        parse_settings(MODEL, ModelSettings, "model.yaml").embedding_dim = 4


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="expected a mapping of settings"):
        load_settings(path, ModelSettings)


def test_broken_yaml_is_told_in_one_line(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("model: [deepfm\nembedding_dim: 8\n")
    with pytest.raises(UserError, match=r"model\.yaml: is not valid YAML") as caught:
        load_settings(path, ModelSettings)
    assert "\n" not in str(caught.value)


def test_yaml_that_would_make_objects_is_refused(tmp_path):
    planted = tmp_path / "planted"
    path = tmp_path / "model.yaml"
    path.write_text(f"model: !!python/object/apply:os.mkdir ['{planted}']\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_settings(path, ModelSettings)
    assert not planted.exists()


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="expected a readable YAML file"):
        load_settings(tmp_path / "absent.yaml", ModelSettings)
