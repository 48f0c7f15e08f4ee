"""Saved weights and checkpoints: they load unchanged, files are never partial, and no code is executed."""

import json
import os
import pickle
from dataclasses import replace

import pytest
import torch

from deepfm.errors import UserError
from deepfm.metrics.binary import Metrics
from deepfm.models.deepfm import DeepFM
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.state import EpochResult, ResumePoint, TrainingHistory
from deepfm.weights import load_weights, save_weights


def model_weights():
    torch.manual_seed(0)
    return DeepFM([3, 2], 2, hidden_units=(3,), batch_norm=True).state_dict()


def test_loaded_weights_equal_the_saved_ones_in_value_and_type(tmp_path):
    weights, url = model_weights(), f"file://{tmp_path}/w"
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
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_is_rejected_and_never_loaded(tmp_path):
    created = tmp_path / "created"
    (tmp_path / "w").write_bytes(pickle.dumps(Trap(str(created))))
    with pytest.raises(UserError, match="expected weights in safetensors format"):
        load_weights(f"file://{tmp_path}/w")
    assert not created.exists()


def test_a_file_saved_by_torch_is_rejected(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(UserError, match="expected weights in safetensors format"):
        load_weights(f"file://{tmp_path}/w")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{}      trailing"])
def test_garbage_is_rejected_with_one_line_that_names_the_file(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_weights(f"file://{tmp_path}/w")
    assert str(caught.value).startswith(f"file://{tmp_path}/w: expected weights in safetensors format, found")
    assert "\n" not in str(caught.value)


def test_half_a_file_is_rejected(tmp_path):
    save_weights(f"file://{tmp_path}/w", model_weights())
    whole = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError):
        load_weights(f"file://{tmp_path}/w")


def test_missing_weights_are_named_in_the_error(tmp_path):
    with pytest.raises(UserError, match="absent: expected weights in safetensors format"):
        load_weights(f"file://{tmp_path}/absent")


def test_weights_are_replaced_completely_and_no_other_file_remains(tmp_path):
    url = f"file://{tmp_path}/w"
    save_weights(url, {"w": torch.zeros(1000)})
    save_weights(url, {"w": torch.ones(2)})
    assert load_weights(url)["w"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_an_interrupted_write_keeps_the_previous_weights(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/w"
    save_weights(url, {"w": torch.zeros(2)})

    def interrupted(*_):
        raise OSError("killed before the new file replaced the old one")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(OSError, match="killed"):
        save_weights(url, {"w": torch.ones(2)})
    assert load_weights(url)["w"].tolist() == [0, 0]


# Checkpoints of a training


def checkpoints_in(tmp_path, num_ranks=2, **changes):
    fingerprint = {"dataset": "d1", "model": {"model": "lr"}, **changes}
    return Checkpoints(f"file://{tmp_path}", "weights", fingerprint, num_ranks)


def resume_point(num_epochs, step):
    metrics = Metrics(num_rows=4, logloss=0.5, auc=0.75, ctr=0.5, mean_probability=0.25, ece=0.25)
    epochs = [EpochResult(number, 0.4, metrics, 10.0, 2.0) for number in range(1, num_epochs + 1)]
    history = TrainingHistory(epochs, best=num_epochs, num_ranks=[2])
    return ResumePoint(history, step, sum_logloss=1.5, num_rows=8)


def test_a_checkpoint_restores_position_weights_and_optimizer_state(tmp_path):
    checkpoints = checkpoints_in(tmp_path)
    weights, moments = model_weights(), {"w/step": torch.tensor(3), "w/exp_avg": torch.ones(2, 2)}
    checkpoints.save(resume_point(1, 200), weights, moments)
    position, loaded, loaded_moments = checkpoints.load(checkpoints.latest())
    assert position == resume_point(1, 200)
    assert all(torch.equal(loaded[name], weight) for name, weight in weights.items())
    assert set(loaded) == set(weights)
    assert {name: value.tolist() for name, value in loaded_moments.items()} == {
        "w/step": 3,
        "w/exp_avg": [[1, 1], [1, 1]],
    }


@pytest.mark.parametrize("invalid", [float("nan"), float("inf")])
def test_nan_or_infinite_weights_do_not_replace_a_good_checkpoint(tmp_path, invalid):
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.save(resume_point(0, 5), {"ids": torch.tensor([7]), "w": torch.ones(2)}, {})
    for step in (6, 7):
        checkpoints.save(resume_point(0, step), {"w": torch.tensor([1.0, invalid])}, {})
    assert checkpoints.latest() == (0, 5)


def test_the_last_two_checkpoints_are_kept_and_other_stages_are_not_changed(tmp_path):
    checkpoints, other = checkpoints_in(tmp_path), Checkpoints(f"file://{tmp_path}", "fm", {})
    other.save(resume_point(9, 0), {}, {})
    assert checkpoints.latest() == (-1, 0)
    for position in [(0, 900), (0, 1000), (1, 0)]:
        checkpoints.save(resume_point(*position), {}, {})
    assert checkpoints.latest() == (1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fm-00009-000000000.checkpoint.safetensors",
        "weights-00000-000001000.checkpoint.safetensors",
        "weights-00001-000000000.checkpoint.safetensors",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "d2"}, "dataset d2, found d1"),
        ({"model": {"model": "fm"}}, "model {.*'fm'}, found {.*'lr'}"),
    ],
    ids=["dataset", "model"],
)
def test_a_checkpoint_of_another_training_is_rejected(tmp_path, change, message):
    checkpoints_in(tmp_path).save(resume_point(0, 5), {}, {})
    other = checkpoints_in(tmp_path, **change)
    with pytest.raises(UserError, match=message):
        other.load(other.latest())


@pytest.mark.parametrize("state", [b"{}", b"no json", b'{"fingerprint": {}, "rows": 1, "history": {}}', None])
def test_another_file_is_rejected(tmp_path, state):
    checkpoints = checkpoints_in(tmp_path)
    tensors = {} if state is None else {"state": torch.frombuffer(bytearray(state), dtype=torch.uint8)}
    save_weights(f"file://{tmp_path}/weights-00000-000000005.checkpoint.safetensors", tensors)
    with pytest.raises(UserError, match="expected a checkpoint, found another safetensors file"):
        checkpoints.load(checkpoints.latest())


def test_a_pickle_instead_of_a_checkpoint_is_rejected_and_never_loaded(tmp_path):
    created = tmp_path / "created"
    checkpoint = tmp_path / "weights-00000-000000005.checkpoint.safetensors"
    checkpoint.write_bytes(pickle.dumps(Trap(str(created))))
    checkpoints = checkpoints_in(tmp_path)
    with pytest.raises(UserError, match="expected weights in safetensors format"):
        checkpoints.load(checkpoints.latest())
    assert not created.exists()


# Other numbers of ranks


def test_another_number_of_ranks_continues_after_the_steps_of_the_earlier_ones(tmp_path):
    checkpoints_in(tmp_path, 2).save(resume_point(1, 5), {}, {})
    three = checkpoints_in(tmp_path, 3)
    position, _, _ = three.load(three.latest())
    assert (position.step, position.segments, position.history.num_ranks) == (5, [(2, 5)], [2, 3])
    three.save(replace(position, step=7), {}, {})
    one = checkpoints_in(tmp_path, 1)
    position, _, _ = one.load(one.latest())
    assert (position.step, position.segments, position.history.num_ranks) == (7, [(2, 5), (3, 2)], [2, 3, 1])
    again, _, _ = three.load(three.latest())
    assert (again.segments, again.history.num_ranks) == ([(2, 5)], [2, 3])


def test_after_the_end_of_an_epoch_other_ranks_share_the_whole_next_epoch(tmp_path):
    checkpoints_in(tmp_path, 2).save(resume_point(1, 0), {}, {})
    position, _, _ = checkpoints_in(tmp_path, 3).load((1, 0))
    assert (position.epoch, position.segments) == (2, [])


def test_other_ranks_get_the_mean_of_buffers_that_differed_by_rank(tmp_path):
    buffers = {"deep.running_mean": torch.tensor([[1.0, 2.0], [3.0, 6.0]])}
    weights = {"deep.running_mean": torch.zeros(2), "w": torch.ones(1)}
    checkpoints_in(tmp_path, 2).save(resume_point(1, 5), weights, {}, buffers)
    loaded = [
        [
            checkpoints_in(tmp_path, size).load((1, 5), rank)[1]["deep.running_mean"].tolist()
            for rank in range(size)
        ]
        for size in (2, 3)
    ]
    assert loaded == [[[1, 2], [3, 6]], [[2, 4]] * 3]


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_a_checkpoint_of_an_earlier_version_has_no_segments(tmp_path, num_ranks):
    checkpoints = checkpoints_in(tmp_path, 2)
    checkpoints.save(resume_point(1, 5), {}, {})
    url = f"file://{tmp_path}/weights-00001-000000005.checkpoint.safetensors"
    state = json.loads(bytes(load_weights(url)["state"].numpy()))
    del state["segments"], state["history"]["num_ranks"], state["history"]["epochs"][0]["num_steps"]
    save_weights(url, {"state": torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)})
    position, _, _ = checkpoints_in(tmp_path, num_ranks).load((1, 5))
    assert (position.step, position.sum_logloss, position.num_rows) == (5, 1.5, 8)
    assert position.segments == ([] if num_ranks == 2 else [(2, 5)])
    assert position.history.num_ranks[0] == 2
