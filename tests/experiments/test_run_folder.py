"""What a run's folder says that its training began with, what it keeps, and when it stays."""

import json
import os

import pytest
import torch

from deepfm import storage
from deepfm.errors import OutOfMemoryError, UserError, WorkersLostError
from deepfm.experiments.run_folder import (
    begin,
    load_result,
    require_resumable,
    resume_spec,
    run_with_folder,
    save_result,
)
from deepfm.metrics.binary import Metrics
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.loop import NotFiniteError
from deepfm.training.result import TrainingResult
from deepfm.training.state import EpochResult, ResumePoint, TrainingHistory

METRICS = Metrics(num_rows=2, logloss=0.5, auc=0.75, ctr=0.5, mean_probability=0.25, ece=0.25)
OUTCOME = TrainingResult(
    TrainingHistory([EpochResult(1, 0.6, METRICS, 100.0, 1.0)], best=1), METRICS, METRICS, 7
)


class Manifest:
    """All of it that tells datasets apart."""

    def __init__(self, digest="d"):
        self.digest = digest


def settings(learning_rate=0.01, **deep):
    training = {"batch_size": 8, "max_epochs": 1, "learning_rate": learning_rate}
    content = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [4], **deep}}
    return ModelSettings.model_validate({**content, "training": training})


BEGUN = resume_spec(settings(), Manifest(), 2, warm_start="models:/m@champion")


@pytest.fixture
def opened(store, tmp_path):
    """A run with its folder, new or resumed."""

    def open_run(resumed_run=None):
        return run_with_folder(store, "run folders", "deepfm", f"file://{tmp_path}", resumed_run)

    return open_run


@pytest.fixture
def cut_off(opened):
    """The id of a run that began, and was cut off before its first checkpoint."""
    with pytest.raises(WorkersLostError) as lost, opened() as (run, run_url):
        begin(run, run_url, BEGUN, None)
        raise WorkersLostError("a worker was lost")
    assert str(lost.value) == f"a worker was lost; the same command with --resume {run.run_id} goes on"
    return run.run_id


def leave_checkpoint(run_url):
    Checkpoints(run_url, "weights", {}).save(ResumePoint(), {"w": torch.ones(1)}, {})


def test_an_outcome_that_was_kept_comes_back(tmp_path):
    save_result(f"file://{tmp_path}", OUTCOME)
    assert load_result(f"file://{tmp_path}") == OUTCOME


def test_a_run_goes_on_with_what_it_began_with(store, tmp_path, cut_off):
    require_resumable(store, cut_off, f"file://{tmp_path}", BEGUN)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (resume_spec(settings(), Manifest("e"), 2, None, "models:/m@champion"), "dataset d, .* found e"),
        (resume_spec(settings(), Manifest(), 3, None, "models:/m@champion"), "--num-workers 2, .* found 3"),
        (resume_spec(settings(), Manifest(), 2), "--warm-start models:/m@champion, .* found None"),
        (resume_spec(settings(), Manifest(), 2, "models:/m@champion"), "--init-from None, .* found models:"),
        (
            resume_spec(settings(activation="tanh"), Manifest(), 2, None, "models:/m@champion"),
            "deep {.*'relu'.*}, .* found {.*'tanh'",
        ),
        (
            resume_spec(settings(0.02), Manifest(), 2, None, "models:/m@champion"),
            "training {.*0.01.*}, .* found {.*0.02",
        ),
    ],
    ids=["dataset", "workers", "start", "other-start", "model", "training"],
)
def test_a_run_without_a_checkpoint_does_not_go_on_as_another(store, tmp_path, cut_off, now, told):
    with pytest.raises(UserError, match=f"resume_spec.json: expected {told}"):
        require_resumable(store, cut_off, f"file://{tmp_path}", now)


def test_a_run_that_was_cut_off_before_it_began_has_nothing_to_go_on_from(store, tmp_path, cut_off):
    (tmp_path / cut_off / "resume_spec.json").unlink()
    with pytest.raises(UserError, match="cut off before it had anything to go on from; train anew"):
        require_resumable(store, cut_off, f"file://{tmp_path}", BEGUN)


@pytest.mark.parametrize("mistake", [OutOfMemoryError, UserError], ids=["memory", "a-file-that-is-damaged"])
def test_a_mistake_after_a_checkpoint_leaves_it_and_says_how_to_go_on(store, tmp_path, opened, mistake):
    with pytest.raises(mistake) as told, opened() as (run, run_url):
        begin(run, run_url, BEGUN, None)
        leave_checkpoint(run_url)
        raise mistake("told in a line")
    assert str(told.value) == (
        f"told in a line; its checkpoints are kept: with the same settings --resume {run.run_id} goes on"
    )
    require_resumable(store, run.run_id, f"file://{tmp_path}", BEGUN)


def test_a_run_that_still_trains_is_not_taken_up_and_trains_on(store, opened):
    """For the store it looks like one that was killed."""
    told = f"run .* is in use by process {os.getpid()}; wait until it ends, or train anew"
    with opened() as (run, run_url):
        begin(run, run_url, BEGUN, None)
        leave_checkpoint(run_url)
        with pytest.raises(UserError, match=told), opened(run.run_id):
            pass
        assert store.find_run(run.run_id).info.status == "RUNNING"


def test_of_two_that_take_up_a_run_one_does(store, opened, cut_off):
    with opened(cut_off), pytest.raises(UserError, match="is in use by process"), opened(cut_off):
        pass
    assert store.find_run(cut_off).info.status == "FINISHED"


def test_a_run_that_another_finished_in_the_meantime_is_not_trained_again(tmp_path, opened, cut_off):
    late = opened(cut_off)
    with opened(cut_off) as (_, run_url):
        storage.remove(run_url)
    with pytest.raises(UserError, match="found one that is finished"), late:
        pass
    assert not (tmp_path / cut_off).exists()


def test_a_mistake_before_the_first_checkpoint_leaves_nothing(tmp_path, opened):
    with pytest.raises(UserError, match="^too few slots$"), opened() as (run, run_url):
        begin(run, run_url, BEGUN, None)
        raise UserError("too few slots")
    assert not (tmp_path / run.run_id).exists()


def test_a_loss_that_is_no_number_leaves_nothing_for_it_would_come_again(tmp_path, opened):
    with pytest.raises(NotFiniteError, match="^nan$"), opened() as (run, run_url):
        leave_checkpoint(run_url)
        raise NotFiniteError("nan")
    assert not (tmp_path / run.run_id).exists()


def test_a_run_that_was_resumed_keeps_its_folder_whatever_comes(tmp_path, opened, cut_off):
    with pytest.raises(UserError, match="^too few slots$"), opened(cut_off):
        raise UserError("too few slots")
    assert json.loads((tmp_path / cut_off / "resume_spec.json").read_text()) == BEGUN
