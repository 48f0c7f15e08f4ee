"""Weights on disk: what is written is read again, nothing half written is seen, and no code is run."""

import pickle

import pytest
import torch

from deepfm import storage
from deepfm.errors import UserError
from deepfm.models.deepfm import DeepFM
from deepfm.training.checkpoint import load_weights, save_weights


def weights_of_a_model():
    torch.manual_seed(0)
    return DeepFM([3, 2], 2, hidden_units=(3,), batch_norm=True).state_dict()


def test_loaded_weights_equal_the_saved_ones_in_value_and_type(tmp_path):
    weights, url = weights_of_a_model(), f"file://{tmp_path}/w"
    save_weights(url, weights)
    loaded = load_weights(url)
    assert set(loaded) == set(weights)
    for name, weight in weights.items():
        assert loaded[name].dtype == weight.dtype
        assert torch.equal(loaded[name], weight)


def test_a_transposed_weight_is_saved_by_its_values(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    save_weights(f"file://{tmp_path}/w", {"w": weight.T})
    assert load_weights(f"file://{tmp_path}/w")["w"].tolist() == [[0, 3], [1, 4], [2, 5]]


class Trap:
    """What a pickle may do when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    sprung = tmp_path / "sprung"
    (tmp_path / "w").write_bytes(pickle.dumps(Trap(str(sprung))))
    with pytest.raises(UserError, match="expected weights in safetensors format"):
        load_weights(f"file://{tmp_path}/w")
    assert not sprung.exists()


def test_what_torch_saved_is_refused(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(UserError, match="expected weights in safetensors format"):
        load_weights(f"file://{tmp_path}/w")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{}      trailing"])
def test_garbage_is_refused_in_one_line_that_names_the_file(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_weights(f"file://{tmp_path}/w")
    assert str(caught.value).startswith(f"file://{tmp_path}/w: expected weights in safetensors format, found")
    assert "\n" not in str(caught.value)


def test_half_a_file_is_refused(tmp_path):
    save_weights(f"file://{tmp_path}/w", weights_of_a_model())
    whole = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError):
        load_weights(f"file://{tmp_path}/w")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="absent: expected weights in safetensors format"):
        load_weights(f"file://{tmp_path}/absent")


def test_weights_are_replaced_whole_and_nothing_else_is_left_behind(tmp_path):
    url = f"file://{tmp_path}/w"
    save_weights(url, {"w": torch.zeros(1000)})
    save_weights(url, {"w": torch.ones(2)})
    assert load_weights(url)["w"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_a_write_that_is_cut_off_leaves_the_former_weights(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/w"
    save_weights(url, {"w": torch.zeros(2)})

    def cut_off(*_):
        raise OSError("killed before the new file took the place of the old one")

    monkeypatch.setattr(storage.os, "replace", cut_off)
    with pytest.raises(OSError, match="killed"):
        save_weights(url, {"w": torch.ones(2)})
    assert load_weights(url)["w"].tolist() == [0, 0]
