"""A saved model scores as before; damaged or mismatched files are refused."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from deepfm.artifact import artifact
from deepfm.artifact.artifact import load_artifact
from deepfm.artifact.checksums import folder_digest, write_checksums
from deepfm.errors import UserError
from deepfm.features.encode import Encoder
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.metrics.calibration import Calibration

RAW = pa.table({"I": pa.array([0, None, 10**9, 1]), "C": pa.array(["a", "b", None, "never seen"])})


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.fixture
def random_model(save_model):
    """The folder of a model with random weights."""
    folder = save_model("random")
    weights = load_file(folder / "weights.safetensors")
    torch.manual_seed(1)
    save_file({key: torch.randn_like(w) for key, w in weights.items()}, folder / "weights.safetensors")
    write_checksums(f"file://{folder}")
    return folder


def test_a_reloaded_model_scores_the_same(save_model, random_model):
    model = load_artifact(f"file://{random_model}")
    copy = random_model.parent / "copy"
    copy.mkdir()
    vocabulary = Vocabulary.load(f"file://{random_model}")
    vocabulary.save(f"file://{copy}")
    save_file(dict(model.network.state_dict()), copy / "weights.safetensors")
    (copy / "model.json").write_text((random_model / "model.json").read_text())
    write_checksums(f"file://{copy}")
    reloaded = load_artifact(f"file://{copy}").probabilities(RAW)
    assert reloaded.tolist() == model.probabilities(RAW).tolist()
    assert len(set(reloaded)) == 4  # distinct rows, so mixed-up ids would show


def test_probabilities_are_the_sigmoid_of_the_weights(save_model):
    folder = save_model(bias=-1.0, c={"a": 1.0, "b": 2.0, None: 3.0, "?": 4.0})
    model = load_artifact(f"file://{folder}")
    expected = [sigmoid(0), sigmoid(1), sigmoid(2), sigmoid(3)]
    assert model.probabilities(RAW) == pytest.approx(expected, abs=1e-7)
    assert model.probabilities(RAW).dtype == np.float64


def test_a_row_scores_the_same_in_any_batch(random_model, monkeypatch):
    model = load_artifact(f"file://{random_model}")
    one_batch = model.logits(RAW)
    monkeypatch.setattr(artifact, "_BATCH_SIZE", 3)
    assert model.logits(RAW) == pytest.approx(one_batch, abs=1e-6)


def test_no_rows_give_no_probabilities(random_model):
    assert load_artifact(f"file://{random_model}").probabilities(RAW.slice(0, 0)).shape == (0,)


def test_the_folder_contains_no_code(random_model):
    names = {path.name for path in random_model.iterdir()}
    assert names == {
        "model.json",
        "weights.safetensors",
        "vocabulary.json",
        "vocabulary.parquet",
        "files.json",
    }


def test_the_card_describes_the_training_data(save_model):
    days = {"train": ("2026-01-01", "2026-01-02"), "valid": ("2026-01-03",) * 2, "test": ("2026-01-04",) * 2}
    card = load_artifact(f"file://{save_model(log_url='file:///clicks', days=days)}").card
    assert card.input.url == "file:///clicks"
    assert card.input.days["test"] == ("2026-01-04", "2026-01-04")
    assert card.data.field_set.names == ("I", "C")
    assert card.model.embedding_dim == 2


def test_a_vocabulary_of_another_dataset_is_not_saved(save_model, small_data):
    counts = pa.table({"field": [1], "value": ["z"], "num": [1]})
    other = Vocabulary.fit(small_data.field_set, counts)
    with pytest.raises(UserError, match="was encoded with vocabulary"):
        save_model(vocabulary=other)
    assert not list((save_model("whole").parent / "model").iterdir())


def test_a_vocabulary_of_another_model_is_refused(save_model, small_data):
    folder = save_model()
    counts = pa.table({"field": [0, 0, 1, 1], "value": ["0", "1", "b", "z"], "num": [2, 1, 2, 1]})
    Vocabulary.fit(small_data.field_set, counts).save(f"file://{folder}")
    write_checksums(f"file://{folder}")
    with pytest.raises(UserError, match="the model was trained with vocabulary"):
        load_artifact(f"file://{folder}")


def test_weights_of_another_shape_are_refused(save_model):
    folder = save_model()
    weights = load_file(folder / "weights.safetensors")
    weights["embedding.table.weight"] = torch.zeros(7, 2)
    save_file(weights, folder / "weights.safetensors")
    write_checksums(f"file://{folder}")
    with pytest.raises(UserError, match="the weights do not fit the model"):
        load_artifact(f"file://{folder}")


FILES = ["model.json", "weights.safetensors", "vocabulary.json", "vocabulary.parquet"]


@pytest.mark.parametrize("name", [*FILES, "files.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "a flipped bit"])
def test_a_damaged_folder_is_refused_in_one_line(save_model, name, damage):
    folder = save_model()
    content = bytearray((folder / name).read_bytes())
    (folder / name).unlink()
    if damage == "truncated":
        (folder / name).write_bytes(content[: len(content) // 2])
    elif damage == "a flipped bit":
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
    with pytest.raises(
        UserError, match=r"(; the model is damaged|register the model again|check the model's)"
    ):
        load_artifact(f"file://{folder}")


def test_a_folder_of_a_newer_format_is_refused(save_model):
    folder = save_model()
    document = json.loads((folder / "files.json").read_text())
    (folder / "files.json").write_text(json.dumps(document | {"format_version": 2}))
    with pytest.raises(UserError, match="expected a model of format 1, found 2; .* another version of this"):
        load_artifact(f"file://{folder}")


def test_the_folder_digest_a_model_is_that_of_its_content(save_model, random_model):
    copy = random_model.parent / "copy"
    shutil.copytree(random_model, copy)
    assert folder_digest(f"file://{copy}") == folder_digest(f"file://{random_model}")
    assert folder_digest(f"file://{save_model('other')}") != folder_digest(f"file://{random_model}")


def test_a_model_saved_under_an_earlier_name_of_a_setting_loads(save_model):
    folder = save_model("earlier")
    card = json.loads((folder / "model.json").read_text())
    card["model"]["training"]["wire"] = card["model"]["training"].pop("gradient_compression")
    (folder / "model.json").write_text(json.dumps(card))
    write_checksums(f"file://{folder}")
    assert load_artifact(f"file://{folder}").card.model.training.gradient_compression == "fp32"


def test_a_card_with_an_unknown_key_is_refused(save_model):
    folder = save_model()
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"loader": "os.system"}))
    write_checksums(f"file://{folder}")
    with pytest.raises(UserError, match="unknown key loader"):
        load_artifact(f"file://{folder}")


def test_the_model_encodes_the_ids_of_training(save_model, small_vocabulary):
    model = load_artifact(f"file://{save_model()}")
    loaded, fitted = model.encoder.encode(RAW), Encoder(small_vocabulary).encode(RAW)
    assert [ids.tolist() for ids in loaded] == [ids.tolist() for ids in fitted]
    assert [ids.tolist() for ids in loaded] == [[2, 0, 1, 3], [2, 3, 0, 1]]


# --- calibration


@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        ({"method": "platt", "slope": 2.0, "intercept": 0.5}, [0.5, 2.5, 4.5, 6.5]),
        ({"method": "isotonic", "knots": [[0.0, -1.0], [2.0, 3.0]]}, [-1.0, 1.0, 3.0, 3.0]),
    ],
)
def test_the_calibration_in_the_card_applies_to_the_logits(save_model, calibration, expected):
    folder = save_model(bias=-1.0, c={"a": 1.0, "b": 2.0, None: 3.0, "?": 4.0})
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"calibration": calibration}))
    write_checksums(f"file://{folder}")
    model = load_artifact(f"file://{folder}")
    assert model.logits(RAW).tolist() == pytest.approx(expected)
    assert model.probabilities(RAW) == pytest.approx([sigmoid(logit) for logit in expected])


def test_the_calibration_follows_the_correction_for_sampled_negatives(save_model):
    folder = save_model(bias=-1.0, c={"a": 1.0, "b": 2.0, None: 3.0, "?": 4.0})
    line = Calibration("platt", 2.0, 0.5)
    model = replace(load_artifact(f"file://{folder}"), logit_correction=-1.0, calibration=line)
    assert model.logits(RAW).tolist() == pytest.approx([2 * (logit - 1) + 0.5 for logit in range(4)])


def test_a_model_of_an_earlier_version_has_no_calibration(save_model):
    folder = save_model("earlier")
    card = json.loads((folder / "model.json").read_text())
    del card["calibration"], card["model"]["calibration"]
    (folder / "model.json").write_text(json.dumps(card))
    write_checksums(f"file://{folder}")
    assert load_artifact(f"file://{folder}").calibration is None
