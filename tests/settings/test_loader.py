"""Settings from YAML: typed, frozen, and all errors of a file reported at once."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import Settings, load_settings, parse_settings
from deepfm.settings.model import ModelSettings

CONF = Path(__file__).resolve().parents[2] / "conf"

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


def test_all_errors_are_listed_at_once():
    invalid = {
        "model": "deepfm",
        "embedding_dim": 0,
        "embeding_dim": 8,
        "training": {"batch_size": "many", "max_epochs": 2},
    }
    with pytest.raises(UserError) as caught:
        parse_settings(invalid, ModelSettings, "file.yaml")
    message = str(caught.value)
    assert message.startswith("file.yaml: 4 errors: ")
    assert "embedding_dim: Input should be greater than or equal to 1 (found 0)" in message
    assert "unknown key embeding_dim: did you mean embedding_dim?" in message
    assert "training.batch_size: Input should be a valid integer" in message
    assert "training.learning_rate is missing" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("settings_class", "content", "message"),
    [
        (
            ModelSettings,
            {"training": {"batchsize": 1}},
            "training.batchsize: did you mean training.batch_size?",
        ),
        # Wrong indentation.
        (ModelSettings, {"batch_size": 64}, "key batch_size: did you mean training.batch_size?"),
        (
            DataSettings,
            {"fields": [{"kind": "category", "names": ["C"], "mincount": 2}]},
            "mincount: did you mean fields.min_count?",
        ),
        (Profile, {"colour": "blue"}, "key colour: remove it or check its spelling"),
    ],
)
def test_an_unknown_key_is_reported_with_the_most_similar_known_key(settings_class, content, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_settings(content, settings_class, "file.yaml")


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        parse_settings(MODEL, ModelSettings, "model.yaml").embedding_dim = 4


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_a_file_that_is_not_a_mapping_is_rejected(tmp_path, text):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="expected a mapping of settings"):
        load_settings(path, ModelSettings)


def test_malformed_yaml_is_reported_in_one_line(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("model: [deepfm\nembedding_dim: 8\n")
    with pytest.raises(UserError, match=r"model\.yaml: is not valid YAML") as caught:
        load_settings(path, ModelSettings)
    assert "\n" not in str(caught.value)


def test_yaml_that_would_create_python_objects_is_rejected(tmp_path):
    planted = tmp_path / "planted"
    path = tmp_path / "model.yaml"
    path.write_text(f"model: !!python/object/apply:os.mkdir ['{planted}']\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_settings(path, ModelSettings)
    assert not planted.exists()


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot read the YAML file"):
        load_settings(tmp_path / "absent.yaml", ModelSettings)


def error_in(tmp_path, text, settings_class=ModelSettings):
    """Error message for a file, without its path."""
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path / "file.yaml", settings_class)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{tmp_path}/file.yaml: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model: lr\nmodel: fm\n",
            "duplicate key model, first in line 1; remove one of them (line 2, co",
        ),
        (
            "training:\n  seed: 1\n  patience: 1\n  seed: 2\n",
            "duplicate key seed, first in line 2; remove one of them (line 4",
        ),
        (
            "deep: {hidden_units: [2], hidden_units: [4]}\n",
            "duplicate key hidden_units, first in line 1",
        ),
    ],
)
def test_a_duplicate_key_is_reported_with_both_lines(tmp_path, text, message):
    assert message in error_in(tmp_path, text)


def test_a_merged_key_may_be_overridden(tmp_path):
    class Ranges(Settings):
        a: dict[str, int]
        b: dict[str, int]

    (tmp_path / "file.yaml").write_text("a: &a {low: 1, high: 2}\nb: {<<: *a, high: 3}\n")
    assert load_settings(tmp_path / "file.yaml", Ranges).b == {"low": 1, "high": 3}


@pytest.mark.parametrize(
    ("settings_class", "content", "key"),
    [
        (ModelSettings, {**MODEL, "embedding_dim": True}, "embedding_dim"),
        (
            ModelSettings,
            {**MODEL, "training": {**MODEL["training"], "max_epochs": True}},
            "training.max_epochs",
        ),
        (ModelSettings, {**MODEL, "deep": {"hidden_units": [4, True]}}, "deep.hidden_units"),
        (DataSettings, {"format": "parquet", "fields": [], "cross_buckets": False}, "cross_buckets"),
    ],
)
def test_true_is_not_a_number(settings_class, content, key):
    with pytest.raises(UserError, match=f"{key}: Input should be a number, not true or false"):
        parse_settings(content, settings_class, "file.yaml")


def test_true_stays_true_where_it_is_valid():
    settings = parse_settings({**MODEL, "deep": {"hidden_units": [4], "batch_norm": True}}, ModelSettings, "")
    assert settings.deep.batch_norm is True
    assert load_settings(CONF / "profile/local.yaml", Profile).spark["spark.ui.enabled"] is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "model: lr\nday: 2026-13-45\n",
            "'2026-13-45' is not a valid value: month must be in 1..12; quote it if it is text (line 2,",
        ),
        (f"model: {'9' * 5000}\n", "is not a valid value"),
        ("model: " + "[" * 2000 + "]" * 2000, "YAML values are nested too deeply"),
        ("model: &a [*a]\n", "or containing themselves"),
    ],
)
def test_invalid_yaml_values_are_reported_in_one_line(tmp_path, text, expected):
    message = error_in(tmp_path, text)
    assert expected in message and len(message) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "mlflow: http://name:pass@word@host:5000\n",
        "mlflow: {tracking_uri: [http://name:word@host]}\n",
        "spark: {spark.authenticate.secret: [word]}\n",
        "spark: [{spark.hadoop.fs.s3a.access.key: word}]\n",
        "mlflow:\n  tracking_uri: http://name: word@host\n",
    ],
)
def test_an_error_message_shows_no_password(tmp_path, text):
    message = error_in(tmp_path, text, Profile)
    assert "mlflow" in message or "spark" in message or "line 2" in message
    assert "word" not in message
