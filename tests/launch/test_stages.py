"""Staged training: simpler models first; the result is never worse on the validation rows than they are."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from deepfm.distributed.collectives import SingleProcess
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.rank.stages import run_worker
from deepfm.metrics import calibration
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints
from deepfm.weights import load_weights

TRAINING = {"batch_size": 16, "max_epochs": 3, "patience": 2, "learning_rate": 0.05, "recipe": "staged"}


@pytest.fixture
def staged_job(dataset_url, tmp_path):
    def job(model="deepfm", **training):
        settings = ModelSettings.model_validate(
            {
                "model": model,
                "embedding_dim": 2,
                "deep": {"hidden_units": [4]},
                "training": TRAINING | training,
            }
        )
        return TrainJob(dataset_url, f"file://{tmp_path}", settings, num_threads=1)

    return job


def losses(history):
    return [epoch.valid.logloss for epoch in history.epochs]


@pytest.mark.parametrize(
    ("model", "stages"), [("deepfm", ["lr", "fm"]), ("fm_dnn", ["lr", "fm"]), ("wide_deep", ["lr"])]
)
def test_each_stage_starts_with_the_validation_metrics_of_the_best_one_before(staged_job, model, stages):
    result = run_worker(staged_job(model), SingleProcess())
    assert list(result.earlier) == stages
    histories = list(result.stages.values())
    assert histories[0].baseline is None
    for before, after in pairwise(histories):
        assert after.baseline == before.best_valid


@pytest.mark.parametrize("rate", [0.01, 5.0])
def test_the_result_is_the_best_epoch_of_all_stages(staged_job, rate):
    result = run_worker(staged_job(deep_rate_factor=rate, table_rate_factor=rate), SingleProcess())
    best = min(loss for history in result.stages.values() for loss in losses(history))
    assert result.valid.logloss == pytest.approx(best, abs=1e-4)  # embeddings start near zero


def test_weights_that_no_later_epoch_improved_are_kept(staged_job, tmp_path):
    # With such steps the deep part makes every epoch worse.
    result = run_worker(staged_job(deep_rate_factor=100, table_rate_factor=100), SingleProcess())
    kept = load_weights(f"file://{tmp_path}/weights.safetensors")
    fm = load_weights(f"file://{tmp_path}/fm.safetensors")
    assert result.history.best == 0 and len(result.history.epochs) == 2  # patience
    assert all(torch.equal(kept[name], value) for name, value in fm.items())
    assert not kept["deep.layers.2.weight"].any()


def test_with_keep_last_all_epochs_of_all_stages_are_trained(staged_job):
    result = run_worker(staged_job(keep="last", deep_rate_factor=100), SingleProcess())
    assert [len(history.epochs) for history in result.stages.values()] == [3, 3, 3]
    assert result.history.best == 3


def test_two_ranks_train_all_stages_to_one_result(staged_job, in_ranks):
    one, other = in_ranks(2, lambda collectives: run_worker(staged_job(), collectives))
    assert one.valid == other.valid
    assert [losses(h) for h in one.stages.values()] == [losses(h) for h in other.stages.values()]


@pytest.mark.parametrize("stage", ["lr", "fm", "weights"])
def test_a_training_that_is_interrupted_in_any_stage_resumes_to_the_same_weights(
    staged_job, tmp_path, stage, monkeypatch
):
    job = replace(staged_job(rare_id_damping=1.0), checkpoint_every_n_steps=2)
    whole = run_worker(job, SingleProcess())
    expected = (tmp_path / "weights.safetensors").read_bytes()
    for file in tmp_path.iterdir():
        file.unlink()
    saved = Checkpoints.save
    num_saved = 0

    def save_and_fail(self, *args):
        nonlocal num_saved
        saved(self, *args)
        num_saved += self.stage == stage
        if num_saved == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save_and_fail)
    with pytest.raises(KeyboardInterrupt):
        run_worker(job, SingleProcess())
    monkeypatch.setattr(Checkpoints, "save", saved)
    resumed = run_worker(replace(job, resume=True), SingleProcess())
    assert (tmp_path / "weights.safetensors").read_bytes() == expected
    assert resumed.valid == whole.valid


def test_a_warm_start_trains_the_last_stage_only_and_keeps_its_start_if_nothing_is_better(
    staged_job, tmp_path
):
    run_worker(staged_job(), SingleProcess())
    again = tmp_path / "again"
    again.mkdir()
    job = replace(
        staged_job(deep_rate_factor=100, table_rate_factor=100),
        run_url=f"file://{again}",
        start_url=f"file://{tmp_path}",
    )
    result = run_worker(job, SingleProcess())
    assert not result.earlier and result.history.best == 0 and result.best_epoch is None
    assert (again / "weights.safetensors").read_bytes() == (tmp_path / "weights.safetensors").read_bytes()


def test_a_calibrated_result_reports_both_metrics(staged_job, monkeypatch):
    monkeypatch.setattr(calibration, "MIN_CLICKS", 5)
    result = run_worker(staged_job(), SingleProcess())
    assert result.calibration.method == "platt" and not result.not_calibrated_because
    # The prior of one row keeps a line from reaching exactly the CTR of these few rows.
    assert result.valid.calibration == pytest.approx(1.0, abs=0.02)
    assert result.valid.logloss < result.uncalibrated["valid"].logloss
    assert result.uncalibrated["test"].auc == pytest.approx(result.test.auc)


def test_too_few_clicks_leave_the_model_as_it_is_with_the_reason(staged_job):
    result = run_worker(staged_job(), SingleProcess())
    assert result.calibration is None and not result.uncalibrated
    assert "expected at least 500 validation rows" in result.not_calibrated_because


def test_a_model_that_is_not_to_be_calibrated_is_not(staged_job, monkeypatch):
    monkeypatch.setattr(calibration, "MIN_CLICKS", 5)
    job = staged_job()
    job = replace(job, model=job.model.model_copy(update={"calibration": "none"}))
    result = run_worker(job, SingleProcess())
    assert result.calibration is None and not result.not_calibrated_because
