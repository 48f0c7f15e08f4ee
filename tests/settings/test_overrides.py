"""--set KEY=VALUE: values of a YAML file from the command line."""

import pytest

from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.model import ModelSettings
from deepfm.settings.overrides import load_with_overrides, override

MODEL = "model: deepfm\nembedding_dim: 8\ntraining: {batch_size: 64, max_epochs: 2, learning_rate: 0.001}\n"
DATA = "format: parquet\nfields: [{kind: category, names: [a]}, {kind: count, names: [b]}]\n"


@pytest.fixture
def load(tmp_path):
    def load_text(text, settings_class, *assignments):
        (tmp_path / "a.yaml").write_text(text)
        return load_with_overrides(tmp_path / "a.yaml", settings_class, assignments)

    return load_text


def test_a_value_of_the_file_is_replaced(load):
    settings = load(MODEL, ModelSettings, "training.learning_rate=0.002", "embedding_dim=4")
    assert (settings.training.learning_rate, settings.embedding_dim) == (0.002, 4)
    assert settings.training.batch_size == 64


def test_the_result_is_that_of_a_file_with_the_value(load):
    changed = MODEL.replace("0.001", "1e-2")
    assert load(MODEL, ModelSettings, "training.learning_rate=1e-2") == load(changed, ModelSettings)


def test_a_section_that_the_file_lacks_is_added(load):
    settings = load(MODEL, ModelSettings, "deep.dropout=0.5", "deep.hidden_units=[64, 32]")
    assert (settings.deep.dropout, settings.deep.hidden_units) == (0.5, (64, 32))


def test_the_last_value_of_a_key_counts(load):
    assert load(MODEL, ModelSettings, "embedding_dim=4", "embedding_dim=5").embedding_dim == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("true", True),
        ("3", 3),
        ("0.5", 0.5),
        ("", None),
        ("null", None),
        ("'3'", "3"),
        ("a=b", "a=b"),
    ],
)
def test_a_value_has_the_type_that_it_has_in_yaml(text, value):
    result = override({}, [f"key={text}"])["key"]
    assert (result, type(result)) == (value, type(value))


def test_an_entry_of_a_list_is_set_by_its_index(load):
    settings = load(DATA, DataSettings, "fields.1.min_count=5")
    assert [group.min_count for group in settings.fields] == [None, 5]


def test_a_section_that_two_keys_share_by_an_alias_is_changed_in_one(load):
    shared = MODEL.replace("deepfm", "fnn").replace("training:", "training: &t") + "pretraining: *t\n"
    settings = load(shared, ModelSettings, "pretraining.max_epochs=7")
    assert (settings.training.max_epochs, settings.pretraining.max_epochs) == (2, 7)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "training.learning_rat=1",
            "unknown key training.learning_rat: did you mean training.learning_rate?",
        ),
        ("training.max_epochs=many", "training.max_epochs: Input should be a valid integer"),
        ("training.max_epochs=true", "training.max_epochs: Input should be a number, not true or false"),
        ("embedding_dim.x=1", "x cannot be set, its section is the value 8"),
        ("training", "expected KEY=VALUE"),
        (".a=1", "expected KEY=VALUE"),
        ("embedding_dim=[", "is not valid YAML"),
    ],
)
def test_an_error_names_the_flag(load, assignment, message):
    with pytest.raises(UserError) as error:
        load(MODEL, ModelSettings, assignment)
    assert f"--set {assignment}" in str(error.value) and message in str(error.value)


def test_an_index_that_the_list_lacks_is_an_error(load):
    with pytest.raises(UserError, match="expected the index of an entry, 0 to 1, found 2"):
        load(DATA, DataSettings, "fields.2.min_count=5")
