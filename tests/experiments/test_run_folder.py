"""Folder of a run: resume specification, result, and when the folder is kept."""

import json
import os

import pytest
import torch

from deepfm import storage
from deepfm.errors import JobFailedError, OutOfMemoryError, UserError, WorkersLostError
from deepfm.experiments.run_folder import (
    load_result,
    log_num_workers,
    require_resumable,
    resume_spec,
    run_to_register,
    run_with_folder,
    save_result,
    start_run,
)
from deepfm.metrics.binary import Metrics
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.epoch import NotFiniteError
from deepfm.training.result import TrainingResult
from deepfm.training.state import EpochResult, ResumePoint, TrainingHistory

METRICS = Metrics(num_rows=2, logloss=0.5, auc=0.75, ctr=0.5, mean_probability=0.25, ece=0.25)
RESULT = TrainingResult(
    TrainingHistory([EpochResult(1, 0.6, METRICS, 100.0, 1.0)], best=1), METRICS, METRICS, 7
)


class Manifest:
    """The part of a manifest that identifies the dataset."""

    def __init__(self, digest="d"):
        self.digest = digest


def settings(learning_rate=0.01, **deep):
    training = {"batch_size": 8, "max_epochs": 1, "learning_rate": learning_rate}
    content = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [4], **deep}}
    return ModelSettings.model_validate({**content, "training": training})


SPEC = resume_spec(settings(), Manifest(), 2, warm_start="models:/m@champion")


@pytest.fixture
def opened(store, tmp_path):
    """A run with its folder, new or resumed."""

    def open_run(resumed_run=None):
        return run_with_folder(store, "run folders", "deepfm", f"file://{tmp_path}", resumed_run)

    return open_run


@pytest.fixture
def interrupted(opened):
    """Id of a run that was interrupted before its first checkpoint."""
    with pytest.raises(WorkersLostError) as caught, opened() as (run, run_url, _):
        start_run(run, run_url, SPEC, None)
        raise WorkersLostError("a worker was lost")
    assert str(caught.value) == f"a worker was lost; resume with the same command and --resume {run.run_id}"
    return run.run_id


def write_checkpoint(run_url):
    Checkpoints(run_url, "weights", {}).save(ResumePoint(), {"w": torch.ones(1)}, {})


def test_a_saved_result_is_loaded(tmp_path):
    save_result(f"file://{tmp_path}", RESULT)
    assert load_result(f"file://{tmp_path}") == RESULT


def test_a_work_dir_that_cannot_be_created_is_a_user_error(store, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    opened = run_with_folder(store, "run folders", "deepfm", f"file://{tmp_path}/link/runs", None)
    with pytest.raises(UserError, match="link/runs.* cannot be written"), opened:
        pass


def test_an_error_that_a_retry_may_fix_removes_the_folder_of_a_new_run(tmp_path, opened):
    with pytest.raises(JobFailedError, match="^executors are missing$"), opened() as (run, run_url, _):
        start_run(run, run_url, SPEC, None)
        raise JobFailedError("executors are missing")
    assert not (tmp_path / run.run_id).exists()


def test_a_run_can_be_resumed_with_its_original_settings(store, tmp_path, interrupted):
    require_resumable(store, interrupted, f"file://{tmp_path}", SPEC)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            resume_spec(settings(), Manifest("e"), 2, None, "models:/m@champion"),
            "dataset d of the .* found e",
        ),
        (resume_spec(settings(), Manifest(), 2), "--warm-start models:/m@champion of the .* found None"),
        (
            resume_spec(settings(), Manifest(), 2, "models:/m@champion"),
            "--init-from None .* found models:",
        ),
        (
            resume_spec(settings(activation="tanh"), Manifest(), 2, None, "models:/m@champion"),
            "deep {.*'relu'.*} of the .* found {.*'tanh'",
        ),
        (
            resume_spec(settings(0.02), Manifest(), 2, None, "models:/m@champion"),
            "training {.*0.01.*} of the .* found {.*0.02",
        ),
    ],
    ids=["dataset", "start", "other-start", "model", "training"],
)
def test_a_run_is_not_resumed_with_other_settings(store, tmp_path, interrupted, spec, message):
    with pytest.raises(UserError, match=f"resume_spec.json: expected {message}"):
        require_resumable(store, interrupted, f"file://{tmp_path}", spec)


def test_a_run_can_be_resumed_with_another_number_of_workers(store, tmp_path, interrupted):
    spec = resume_spec(settings(), Manifest(), 3, None, "models:/m@champion")
    require_resumable(store, interrupted, f"file://{tmp_path}", spec)


@pytest.mark.parametrize(("num_workers", "expected"), [(2, None), (3, "3"), (0, "0")])
def test_another_number_of_workers_is_logged(store, opened, interrupted, caplog, num_workers, expected):
    with opened(interrupted) as (run, run_url, _):
        log_num_workers(run, run_url, num_workers)
    assert store.find_run(interrupted).data.tags.get("resumed_num_workers") == expected
    message = f"num_workers={num_workers} original_num_workers=2; the rows of a step"
    assert (message in caplog.text) == (expected is not None)


def test_a_run_without_a_resume_specification_is_not_resumed(store, tmp_path, interrupted):
    (tmp_path / interrupted / "resume_spec.json").unlink()
    with pytest.raises(UserError, match="interrupted before it could be resumed; start a new"):
        require_resumable(store, interrupted, f"file://{tmp_path}", SPEC)


@pytest.fixture
def former_folder(interrupted, tmp_path):
    """Folder of an interrupted run with the names of an earlier version: begun_with.json, wire."""
    folder = tmp_path / interrupted
    text = (folder / "resume_spec.json").read_text().replace("gradient_compression", "wire")
    (folder / "begun_with.json").write_text(text)
    (folder / "resume_spec.json").unlink()
    return folder


def test_a_model_that_an_earlier_version_trained_can_be_registered(store, tmp_path, former_folder):
    save_result(f"file://{former_folder}", RESULT)
    text = (former_folder / "result.json").read_text().replace('"history"', '"training"')
    (former_folder / "outcome.json").write_text(text)
    (former_folder / "result.json").unlink()
    run_id = run_to_register(str(former_folder), f"file://{tmp_path}")
    require_resumable(store, run_id, f"file://{tmp_path}", SPEC)
    assert load_result(f"file://{former_folder}") == RESULT


def test_a_training_that_an_earlier_version_started_is_not_resumed(store, tmp_path, former_folder):
    with pytest.raises(UserError, match="started by an earlier version, whose checkpoints .* cannot read"):
        require_resumable(store, former_folder.name, f"file://{tmp_path}", SPEC)


@pytest.mark.parametrize("error_class", [OutOfMemoryError, UserError], ids=["out of memory", "damaged file"])
def test_an_error_after_a_checkpoint_keeps_it_and_says_how_to_resume(store, tmp_path, opened, error_class):
    with pytest.raises(error_class) as caught, opened() as (run, run_url, _):
        start_run(run, run_url, SPEC, None)
        write_checkpoint(run_url)
        raise error_class("one line")
    assert str(caught.value) == (
        f"one line; its checkpoints are kept; resume with the same command and --resume {run.run_id}"
    )
    require_resumable(store, run.run_id, f"file://{tmp_path}", SPEC)


def test_a_run_that_still_trains_is_not_resumed(store, opened):
    """MLflow cannot distinguish it from a run that was killed."""
    message = f"run .* is in use by process {os.getpid()} on .*; wait until it ends, or start"
    with opened() as (run, run_url, _):
        start_run(run, run_url, SPEC, None)
        write_checkpoint(run_url)
        with pytest.raises(JobFailedError, match=message), opened(run.run_id):
            pass
        assert store.find_run(run.run_id).info.status == "RUNNING"


def test_only_one_of_two_processes_resumes_a_run(store, opened, interrupted):
    with (
        opened(interrupted),
        pytest.raises(JobFailedError, match="is in use by process"),
        opened(interrupted),
    ):
        pass
    assert store.find_run(interrupted).info.status == "FINISHED"


def test_a_deleted_run_is_reported_with_the_command_that_restores_it(store, opened, interrupted):
    store.client.delete_run(interrupted)
    message = f"found a deleted run, which `mlflow runs restore --run-id {interrupted}` restores"
    with pytest.raises(UserError, match=message), opened(interrupted):
        pass


def test_a_run_that_another_process_finished_is_not_trained_again(tmp_path, opened, interrupted):
    late = opened(interrupted)
    with opened(interrupted) as (_, run_url, _):
        storage.remove(run_url)
    with pytest.raises(UserError, match="found a finished run"), late:
        pass
    assert not (tmp_path / interrupted).exists()


def test_an_error_before_the_first_checkpoint_removes_the_folder(tmp_path, opened):
    with pytest.raises(UserError, match="^too few slots$"), opened() as (run, run_url, _):
        start_run(run, run_url, SPEC, None)
        raise UserError("too few slots")
    assert not (tmp_path / run.run_id).exists()


def test_a_nan_loss_removes_the_folder(tmp_path, opened):
    with pytest.raises(NotFiniteError, match="^nan$"), opened() as (run, run_url, _):
        write_checkpoint(run_url)
        raise NotFiniteError("nan")
    assert not (tmp_path / run.run_id).exists()


def test_a_resumed_run_always_keeps_its_folder(tmp_path, opened, interrupted):
    with pytest.raises(UserError, match="^too few slots$"), opened(interrupted):
        raise UserError("too few slots")
    assert json.loads((tmp_path / interrupted / "resume_spec.json").read_text()) == SPEC
