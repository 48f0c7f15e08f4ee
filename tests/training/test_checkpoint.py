"""Weights on disk: what is written is read again, nothing half written is seen, and no code is run."""

import pickle

import pytest
import torch

from deepfm import storage
from deepfm.errors import UserError
from deepfm.metrics.binary import Metrics
from deepfm.models.deepfm import DeepFM
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.state import EpochResult, ResumePoint, TrainingHistory
from deepfm.weights import load_weights, save_weights


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


# Checkpoints of a training


def checkpoints_of(tmp_path, **changes):
    fingerprint = {"dataset": "d1", "workers": 2, "model": {"model": "lr"}, **changes}
    return Checkpoints(f"file://{tmp_path}", "weights", fingerprint)


def position_at(num_epochs, step):
    metrics = Metrics(num_rows=4, logloss=0.5, auc=0.75, ctr=0.5, mean_probability=0.25, ece=0.25)
    epochs = [EpochResult(number, 0.4, metrics, 10.0, 2.0) for number in range(1, num_epochs + 1)]
    return ResumePoint(TrainingHistory(epochs, best=num_epochs), step, sum_logloss=1.5, num_rows=8)


def test_a_checkpoint_gives_back_position_weights_and_moments(tmp_path):
    checkpoints = checkpoints_of(tmp_path)
    weights, moments = weights_of_a_model(), {"w/step": torch.tensor(3), "w/exp_avg": torch.ones(2, 2)}
    checkpoints.save(position_at(1, 200), weights, moments)
    position, found, found_moments = checkpoints.load(checkpoints.latest())
    assert position == position_at(1, 200)
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
    assert set(found) == set(weights)
    assert {name: value.tolist() for name, value in found_moments.items()} == {
        "w/step": 3,
        "w/exp_avg": [[1, 1], [1, 1]],
    }


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_take_no_good_checkpoints_place(tmp_path, wrong):
    checkpoints = checkpoints_of(tmp_path)
    checkpoints.save(position_at(0, 5), {"ids": torch.tensor([7]), "w": torch.ones(2)}, {})
    for step in (6, 7):
        checkpoints.save(position_at(0, step), {"w": torch.tensor([1.0, wrong])}, {})
    assert checkpoints.latest() == (0, 5)


def test_the_last_two_checkpoints_are_kept_and_other_stages_are_left_alone(tmp_path):
    checkpoints, other = checkpoints_of(tmp_path), Checkpoints(f"file://{tmp_path}", "fm", {})
    other.save(position_at(9, 0), {}, {})
    assert checkpoints.latest() == (-1, 0)
    for place in [(0, 900), (0, 1000), (1, 0)]:
        checkpoints.save(position_at(*place), {}, {})
    assert checkpoints.latest() == (1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fm-00009-000000000.checkpoint.safetensors",
        "weights-00000-000001000.checkpoint.safetensors",
        "weights-00001-000000000.checkpoint.safetensors",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [({"dataset": "d2"}, "dataset d2, found d1"), ({"workers": 4}, "workers 4, found 2")],
    ids=["dataset", "workers"],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, told):
    checkpoints_of(tmp_path).save(position_at(0, 5), {}, {})
    other = checkpoints_of(tmp_path, **change)
    with pytest.raises(UserError, match=told):
        other.load(other.latest())


@pytest.mark.parametrize("state", [b"{}", b"no json", b'{"fingerprint": {}, "rows": 1, "history": {}}', None])
def test_another_file_is_refused(tmp_path, state):
    checkpoints = checkpoints_of(tmp_path)
    tensors = {} if state is None else {"state": torch.frombuffer(bytearray(state), dtype=torch.uint8)}
    save_weights(f"file://{tmp_path}/weights-00000-000000005.checkpoint.safetensors", tensors)
    with pytest.raises(UserError, match="expected a checkpoint, found another safetensors file"):
        checkpoints.load(checkpoints.latest())


def test_a_pickle_in_a_checkpoints_place_is_refused_and_never_run(tmp_path):
    trace = tmp_path / "trace"
    place = tmp_path / "weights-00000-000000005.checkpoint.safetensors"
    place.write_bytes(pickle.dumps(Trap(str(trace))))
    checkpoints = checkpoints_of(tmp_path)
    with pytest.raises(UserError, match="expected weights in safetensors format"):
        checkpoints.load(checkpoints.latest())
    assert not trace.exists()
