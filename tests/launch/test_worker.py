"""Results and files of a worker: single, or with ranks that are threads."""

import gzip
import json
import math
from dataclasses import replace

import pytest
import torch

from deepfm.distributed.collectives import SingleProcess
from deepfm.launch.factory import build_optimizer
from deepfm.launch.job_spec import OPTIMIZER, WEIGHTS, TrainJob
from deepfm.launch.rank.stages import run_worker
from deepfm.models.fm import FM
from deepfm.models.lr import LogisticRegression
from deepfm.settings.model import ModelSettings, TrainingSettings
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.optimizers.ftrl import Ftrl
from deepfm.training.optimizers.lazy_adam import LazyAdam
from deepfm.training.profiler import TABLE, TRACE
from deepfm.weights import load_weights, save_weights


def training_settings(**changes):
    return TrainingSettings(**{"batch_size": 16, "max_epochs": 2, "learning_rate": 0.01, **changes})


def settings(**training):
    return ModelSettings(
        model="deepfm", embedding_dim=2, deep={"hidden_units": [4]}, training=training_settings(**training)
    )


@pytest.fixture
def trained(dataset_url, tmp_path):
    def train(**training):
        job = TrainJob(dataset_url, f"file://{tmp_path}", settings(**training), num_threads=1)
        return run_worker(job, SingleProcess())

    return train


def test_the_result_covers_every_validation_and_test_row(trained):
    result = trained()
    assert (result.valid.num_rows, result.test.num_rows) == (21, 20)


def test_weights_kept_are_those_of_the_best_epoch_and_not_of_the_last(trained, tmp_path):
    # Labels are random, so training soon makes the validation worse.
    result = trained(learning_rate=0.5, max_epochs=6, patience=6)
    assert result.history.best < 6
    assert result.valid == result.best_epoch.valid
    assert result.valid.logloss == min(epoch.valid.logloss for epoch in result.history.epochs)
    assert load_weights(f"file://{tmp_path}/weights.safetensors")["linear.bias"].shape == (1,)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_bytes(trained, tmp_path):
    contents = []
    for seed in (1, 1, 2):
        trained(seed=seed)
        contents.append((tmp_path / "weights.safetensors").read_bytes())
    assert contents[0] == contents[1] != contents[2]


# FNN's two stages


FNN = {
    "model": "fnn",
    "embedding_dim": 2,
    "deep": {"hidden_units": [4]},
    # Random labels and large steps: the best epoch of the FM is an early one.
    "pretraining": {"batch_size": 16, "max_epochs": 6, "patience": 6, "learning_rate": 0.3},
}
FM_TABLES = ("linear.bias", "linear.weights.table.weight", "embedding.table.weight")


@pytest.fixture
def fnn_job(dataset_url, tmp_path):
    """A job whose second stage has `num_epochs` and moves no weight by more than `learning_rate` per step."""

    def job(num_epochs=1, learning_rate=1e-9, init_url=None, **changes):
        training = {"batch_size": 16, "max_epochs": num_epochs, "learning_rate": learning_rate}
        model = ModelSettings.model_validate({**FNN, "training": training, **changes})
        return TrainJob(dataset_url, f"file://{tmp_path}", model, num_threads=1, init_url=init_url)

    return job


def assert_starts_from(weights, fm_weights):
    assert set(fm_weights) == set(FM_TABLES)
    for name in FM_TABLES:
        torch.testing.assert_close(weights[name], fm_weights[name], rtol=0, atol=1e-6)


def test_an_fnn_starts_from_the_best_epochs_weights_of_an_fm_that_is_trained_first(fnn_job, tmp_path):
    result = run_worker(fnn_job(), SingleProcess())
    fm_weights = load_weights(f"file://{tmp_path}/fm.safetensors")
    assert result.earlier["fm"].best < len(result.earlier["fm"].epochs) == 6
    assert fm_weights["linear.weights.table.weight"].abs().max() > 0.1  # from zero: it was trained
    assert_starts_from(load_weights(f"file://{tmp_path}/weights.safetensors"), fm_weights)


def test_the_first_stage_is_the_fm_that_those_settings_alone_would_train(fnn_job, tmp_path):
    job = fnn_job()
    result = run_worker(job, SingleProcess())
    (tmp_path / "alone").mkdir()
    alone_url = f"file://{tmp_path}/alone"
    (fm,) = job.model.earlier_stages()
    alone = run_worker(TrainJob(job.dataset_url, alone_url, fm, 1), SingleProcess())
    assert [epoch.valid for epoch in result.earlier["fm"].epochs] == [e.valid for e in alone.history.epochs]
    assert (tmp_path / "fm.safetensors").read_bytes() == (tmp_path / "alone/weights.safetensors").read_bytes()


def test_the_second_stage_trains_the_weights_of_the_first(fnn_job, tmp_path):
    run_worker(fnn_job(learning_rate=0.05), SingleProcess())
    weights, fm_weights = (
        load_weights(f"file://{tmp_path}/{name}.safetensors") for name in ("weights", "fm")
    )
    assert all((weights[name] - fm_weights[name]).abs().max() > 0.01 for name in FM_TABLES)


def test_the_result_of_an_fnn_is_that_of_its_second_stage(fnn_job):
    result = run_worker(fnn_job(num_epochs=2, learning_rate=0.01), SingleProcess())
    assert (len(result.earlier["fm"].epochs), len(result.history.epochs)) == (6, 2)
    assert result.valid == result.best_epoch.valid
    # 9 ids, F = 2, K = 2: 9 (K + 1) + 1, then an MLP over 1 + F (K + 1) inputs.
    assert result.num_weights == 28 + (7 + 1) * 4 + (4 + 1)


def test_metrics_of_the_first_stage_have_a_prefix_and_come_first(fnn_job, tmp_path):
    run_worker(fnn_job(), SingleProcess())
    epochs = json.loads((tmp_path / "progress.json").read_text())["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4, 5, 6, 1]
    assert ["fm_valid_auc" in epoch for epoch in epochs] == [True] * 6 + [False]
    assert ["valid_auc" in epoch for epoch in epochs] == [False] * 6 + [True]


def test_the_first_stage_uses_the_training_settings_by_default(fnn_job):
    result = run_worker(fnn_job(num_epochs=2, learning_rate=0.01, pretraining=None), SingleProcess())
    assert len(result.earlier["fm"].epochs) == 2


def test_the_optimizer_state_of_the_fm_is_not_saved_as_that_of_the_fnn(fnn_job, tmp_path):
    job = fnn_job()
    training = job.model.training.model_copy(update={"save_optimizer": False})
    run_worker(replace(job, model=job.model.model_copy(update={"training": training})), SingleProcess())
    assert not (tmp_path / OPTIMIZER).exists()


def test_an_fnn_starts_from_a_given_fm_without_training_one(fnn_job, tmp_path):
    fm = FM((4, 5), 2)
    for weight in fm.parameters():
        torch.nn.init.normal_(weight)
    save_weights(f"file://{tmp_path}/given.safetensors", fm.state_dict())
    result = run_worker(fnn_job(init_url=f"file://{tmp_path}/given.safetensors"), SingleProcess())
    assert not result.earlier
    assert not (tmp_path / "fm.safetensors").exists()
    assert_starts_from(load_weights(f"file://{tmp_path}/weights.safetensors"), fm.state_dict())


def test_two_ranks_train_both_stages_to_one_result(fnn_job, in_ranks):
    # Speed is excluded: each rank uses its own clock.
    def comparable(result):
        stages = (result.earlier["fm"], result.history)
        return result.valid, result.test, [[epoch.valid for epoch in stage.epochs] for stage in stages]

    one, other = in_ranks(2, lambda collectives: run_worker(fnn_job(learning_rate=0.01), collectives))
    assert comparable(one) == comparable(other)


# Optimizers


def test_settings_choose_the_optimizer():
    model = LogisticRegression((4, 5))
    ftrl = {"optimizer": "ftrl", "ftrl": {"beta": 0.5, "l1": 0.1, "l2": 0.2}}
    (by_ftrl,) = build_optimizer(model, training_settings(**ftrl))._optimizers
    assert isinstance(by_ftrl, Ftrl)
    assert by_ftrl.defaults == {"lr": 0.01, "beta": 0.5, "l1": 0.1, "l2": 0.2}
    by_adam = build_optimizer(model, training_settings())._optimizers
    assert [type(optimizer) for optimizer in by_adam] == [LazyAdam, torch.optim.Adam]


def test_an_lr_is_trained_by_ftrl(dataset_url, tmp_path):
    ftrl = {"optimizer": "ftrl", "ftrl": {"l1": 100.0}}
    lr = ModelSettings(model="lr", training=training_settings(**ftrl))
    result = run_worker(TrainJob(dataset_url, f"file://{tmp_path}", lr, num_threads=1), SingleProcess())
    # Such a large l1 keeps every weight at zero, unlike Adam.
    assert result.valid.logloss == pytest.approx(math.log(2), rel=1e-6)
    assert result.num_weights == 9 + 1


@pytest.mark.parametrize("is_kept", [True, False], ids=["with state", "without state"])
def test_ftrl_continues_from_the_weights_of_other_settings(dataset_url, tmp_path, in_ranks, is_kept):
    def job(name, learning_rate, beta, **changes):
        training = {"optimizer": "ftrl", "ftrl": {"beta": beta}, "scale_learning_rate": "linear"}
        lr = ModelSettings(model="lr", training=training_settings(learning_rate=learning_rate, **training))
        (tmp_path / name).mkdir()
        return TrainJob(dataset_url, f"file://{tmp_path}/{name}", lr, num_threads=1, **changes)

    run_worker(job("first", 0.5, 0.01), SingleProcess())
    if not is_kept:
        (tmp_path / "first" / OPTIMIZER).unlink()
    # Such a large beta makes the steps negligible; two workers double the rate.
    second = job("second", 0.1, 1e6, start_url=f"file://{tmp_path}/first")
    in_ranks(2, lambda collectives: run_worker(second, collectives))
    before, after = (load_weights(f"file://{tmp_path}/{name}/{WEIGHTS}") for name in ("first", "second"))
    assert before["linear.weights.table.weight"].abs().max() > 0.1
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-4)


def test_the_gauc_of_a_field_is_computed_on_validation_and_test_rows(trained):
    result, without = trained(gauc_field="A"), trained()
    for metrics in (result.valid, result.test):
        assert 0 < metrics.gauc < 1
    assert "valid_gauc" in result.best_epoch.curves()
    assert without.valid.gauc is None


def test_a_profiled_training_writes_its_trace(dataset_url, tmp_path):
    job = TrainJob(dataset_url, f"file://{tmp_path}", settings(), num_threads=1, profile_steps=2)
    run_worker(job, SingleProcess())
    assert {path.name for path in tmp_path.iterdir()} >= {TRACE, TABLE}


def test_both_stages_of_an_fnn_write_their_traces(fnn_job, tmp_path):
    run_worker(replace(fnn_job(num_epochs=2), profile_steps=2), SingleProcess())
    assert {path.name for path in tmp_path.glob("*trace*")} == {TRACE, f"fm_{TRACE}"}
    fm, fnn = (gzip.decompress((tmp_path / name).read_bytes()).decode() for name in (f"fm_{TRACE}", TRACE))
    # Only the FNN has a hidden layer.
    assert ("aten::relu" in fm, "aten::relu" in fnn) == (False, True)


def test_a_resumed_run_ends_like_an_uninterrupted_one(dataset_url, tmp_path, monkeypatch):
    def job(name, **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return TrainJob(
            dataset_url,
            f"file://{folder}",
            settings(max_epochs=3, patience=3),
            num_threads=1,
            checkpoint_every_n_steps=1,
            **changes,
        )

    whole = run_worker(job("whole"), SingleProcess())
    save, saved = Checkpoints.save, []

    def save_and_interrupt(self, position, *state):
        save(self, position, *state)
        saved.append(position.step)
        if len(saved) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", save_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_worker(job("resumed"), SingleProcess())
    again = run_worker(job("resumed", resume=True), SingleProcess())
    weights = [load_weights(f"file://{tmp_path}/{name}/weights.safetensors") for name in ("whole", "resumed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (again.valid, again.test, again.history.best) == (whole.valid, whole.test, whole.history.best)
    assert [epoch.train_logloss for epoch in again.history.epochs] == [
        epoch.train_logloss for epoch in whole.history.epochs
    ]


def test_resuming_without_a_checkpoint_starts_from_the_beginning(dataset_url, tmp_path):
    job = TrainJob(dataset_url, f"file://{tmp_path}", settings(), num_threads=1, resume=True)
    assert len(run_worker(job, SingleProcess()).history.epochs) == 2


def test_no_checkpoint_is_written_by_default(dataset_url, tmp_path):
    run_worker(TrainJob(dataset_url, f"file://{tmp_path}", settings(), num_threads=1), SingleProcess())
    assert not list(tmp_path.glob("*.checkpoint.*"))
