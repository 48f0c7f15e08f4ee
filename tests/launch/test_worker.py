"""What a worker returns and leaves behind, without other workers but where ranks are threads."""

import gzip
import json
import math
from dataclasses import replace

import pytest
import torch

from deepfm.distributed.collectives import SingleWorld
from deepfm.launch.factory import make_optimizer
from deepfm.launch.job_spec import OPTIMIZER, WEIGHTS, WorkOrder
from deepfm.launch.worker import run_worker
from deepfm.models.fm import FM
from deepfm.models.lr import LR
from deepfm.settings.model import ModelSettings, TrainingSettings
from deepfm.training.checkpoint import Checkpoints, load_weights, save_weights
from deepfm.training.ftrl import Ftrl
from deepfm.training.optimizer import LazyAdam
from deepfm.training.profiler import TABLE, TRACE


def training_settings(**changes):
    return TrainingSettings(**{"batch_size": 16, "max_epochs": 2, "learning_rate": 0.01, **changes})


def settings(**training):
    return ModelSettings(
        model="deepfm", embedding_dim=2, deep={"hidden_units": [4]}, training=training_settings(**training)
    )


@pytest.fixture
def trained(dataset_url, tmp_path):
    def train(**training):
        order = WorkOrder(dataset_url, f"file://{tmp_path}", settings(**training), num_threads=1)
        return run_worker(order, SingleWorld())

    return train


def test_outcome_is_measured_on_every_validation_and_test_row(trained):
    outcome = trained()
    assert (outcome.valid.num_rows, outcome.test.num_rows) == (21, 20)


def test_weights_kept_are_those_of_the_best_epoch_and_not_of_the_last(trained, tmp_path):
    # Clicks by chance: what is learnt from them soon makes validation worse.
    outcome = trained(learning_rate=0.5, max_epochs=6, patience=6)
    assert outcome.training.best < 6
    assert outcome.valid == outcome.best_epoch.valid
    assert outcome.valid.logloss == min(epoch.valid.logloss for epoch in outcome.training.epochs)
    assert load_weights(f"file://{tmp_path}/weights.safetensors")["linear.bias"].shape == (1,)


def test_the_same_seed_leaves_the_same_bytes_and_another_seed_others(trained, tmp_path):
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
    # Clicks by chance, and large steps: the FM's best epoch is an early one.
    "pretraining": {"batch_size": 16, "max_epochs": 6, "patience": 6, "learning_rate": 0.3},
}
FM_TABLES = ("linear.bias", "linear.weights.table.weight", "embedding.table.weight")


@pytest.fixture
def fnn_order(dataset_url, tmp_path):
    """Its second stage is `num_epochs` long and moves no weight by more than `learning_rate` a step."""

    def order(num_epochs=1, learning_rate=1e-9, init_url=None, **changes):
        training = {"batch_size": 16, "max_epochs": num_epochs, "learning_rate": learning_rate}
        model = ModelSettings.model_validate({**FNN, "training": training, **changes})
        return WorkOrder(dataset_url, f"file://{tmp_path}", model, num_threads=1, init_url=init_url)

    return order


def assert_starts_from(weights, fm_weights):
    assert set(fm_weights) == set(FM_TABLES)
    for name in FM_TABLES:
        torch.testing.assert_close(weights[name], fm_weights[name], rtol=0, atol=1e-6)


def test_an_fnn_starts_from_the_best_epochs_weights_of_an_fm_that_is_trained_first(fnn_order, tmp_path):
    outcome = run_worker(fnn_order(), SingleWorld())
    fm_weights = load_weights(f"file://{tmp_path}/fm.safetensors")
    assert outcome.first_stage.best < len(outcome.first_stage.epochs) == 6
    assert fm_weights["linear.weights.table.weight"].abs().max() > 0.1  # from zero: it was trained
    assert_starts_from(load_weights(f"file://{tmp_path}/weights.safetensors"), fm_weights)


def test_the_first_stage_is_the_fm_that_those_settings_alone_would_train(fnn_order, tmp_path):
    order = fnn_order()
    outcome = run_worker(order, SingleWorld())
    (tmp_path / "alone").mkdir()
    alone_url = f"file://{tmp_path}/alone"
    alone = run_worker(WorkOrder(order.dataset_url, alone_url, order.model.first_stage(), 1), SingleWorld())
    assert [epoch.valid for epoch in outcome.first_stage.epochs] == [e.valid for e in alone.training.epochs]
    assert (tmp_path / "fm.safetensors").read_bytes() == (tmp_path / "alone/weights.safetensors").read_bytes()


def test_the_second_stage_trains_what_it_took_over(fnn_order, tmp_path):
    run_worker(fnn_order(learning_rate=0.05), SingleWorld())
    weights, fm_weights = (
        load_weights(f"file://{tmp_path}/{name}.safetensors") for name in ("weights", "fm")
    )
    assert all((weights[name] - fm_weights[name]).abs().max() > 0.01 for name in FM_TABLES)


def test_outcome_of_an_fnn_is_that_of_its_second_stage(fnn_order):
    outcome = run_worker(fnn_order(num_epochs=2, learning_rate=0.01), SingleWorld())
    assert (len(outcome.first_stage.epochs), len(outcome.training.epochs)) == (6, 2)
    assert outcome.valid == outcome.best_epoch.valid
    # 9 ids, F = 2, K = 2: 9 (K + 1) + 1, then an MLP over 1 + F (K + 1) inputs.
    assert outcome.num_weights == 28 + (7 + 1) * 4 + (4 + 1)


def test_curves_of_the_first_stage_have_a_prefix_and_come_first(fnn_order, tmp_path):
    run_worker(fnn_order(), SingleWorld())
    epochs = json.loads((tmp_path / "progress.json").read_text())["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4, 5, 6, 1]
    assert ["fm_valid_auc" in epoch for epoch in epochs] == [True] * 6 + [False]
    assert ["valid_auc" in epoch for epoch in epochs] == [False] * 6 + [True]


def test_without_settings_of_its_own_the_first_stage_has_those_of_training(fnn_order):
    outcome = run_worker(fnn_order(num_epochs=2, learning_rate=0.01, pretraining=None), SingleWorld())
    assert len(outcome.first_stage.epochs) == 2


def test_what_the_fms_optimizer_remembers_is_not_left_as_the_fnns(fnn_order, tmp_path):
    order = fnn_order()
    training = order.model.training.model_copy(update={"save_optimizer": False})
    run_worker(replace(order, model=order.model.model_copy(update={"training": training})), SingleWorld())
    assert not (tmp_path / OPTIMIZER).exists()


def test_an_fnn_that_is_given_an_fm_starts_from_it_and_trains_none(fnn_order, tmp_path):
    fm = FM((4, 5), 2)
    for weight in fm.parameters():
        torch.nn.init.normal_(weight)
    save_weights(f"file://{tmp_path}/given.safetensors", fm.state_dict())
    outcome = run_worker(fnn_order(init_url=f"file://{tmp_path}/given.safetensors"), SingleWorld())
    assert outcome.first_stage is None
    assert not (tmp_path / "fm.safetensors").exists()
    assert_starts_from(load_weights(f"file://{tmp_path}/weights.safetensors"), fm.state_dict())


def test_two_ranks_train_both_stages_to_one_outcome(fnn_order, in_ranks):
    # Not their speed, which each takes by its own clock.
    def found(outcome):
        stages = (outcome.first_stage, outcome.training)
        return outcome.valid, outcome.test, [[epoch.valid for epoch in stage.epochs] for stage in stages]

    one, other = in_ranks(2, lambda world: run_worker(fnn_order(learning_rate=0.01), world))
    assert found(one) == found(other)


# Optimizers


def test_settings_choose_the_optimizer():
    model = LR((4, 5))
    ftrl = {"optimizer": "ftrl", "ftrl": {"beta": 0.5, "l1": 0.1, "l2": 0.2}}
    (by_ftrl,) = make_optimizer(model, training_settings(**ftrl))._optimizers
    assert isinstance(by_ftrl, Ftrl)
    assert by_ftrl.defaults == {"lr": 0.01, "beta": 0.5, "l1": 0.1, "l2": 0.2}
    by_adam = make_optimizer(model, training_settings())._optimizers
    assert [type(optimizer) for optimizer in by_adam] == [LazyAdam, torch.optim.Adam]


def test_an_lr_is_trained_by_ftrl(dataset_url, tmp_path):
    ftrl = {"optimizer": "ftrl", "ftrl": {"l1": 100.0}}
    lr = ModelSettings(model="lr", training=training_settings(**ftrl))
    outcome = run_worker(WorkOrder(dataset_url, f"file://{tmp_path}", lr, num_threads=1), SingleWorld())
    # l1 so strong holds every weight at zero, which Adam would not.
    assert outcome.valid.logloss == pytest.approx(math.log(2), rel=1e-6)
    assert outcome.num_weights == 9 + 1


@pytest.mark.parametrize("is_kept", [True, False], ids=["moments", "no-moments"])
def test_an_lr_goes_on_by_ftrl_from_its_weights_whatever_the_settings_were(
    dataset_url, tmp_path, in_ranks, is_kept
):
    def order(name, learning_rate, beta, **changes):
        training = {"optimizer": "ftrl", "ftrl": {"beta": beta}, "scale_learning_rate": "linear"}
        lr = ModelSettings(model="lr", training=training_settings(learning_rate=learning_rate, **training))
        (tmp_path / name).mkdir()
        return WorkOrder(dataset_url, f"file://{tmp_path}/{name}", lr, num_threads=1, **changes)

    run_worker(order("begun", 0.5, 0.01), SingleWorld())
    if not is_kept:
        (tmp_path / "begun" / OPTIMIZER).unlink()
    # A beta so large makes steps of next to nothing; two workers double the rate.
    going_on = order("on", 0.1, 1e6, start_url=f"file://{tmp_path}/begun")
    in_ranks(2, lambda world: run_worker(going_on, world))
    before, after = (load_weights(f"file://{tmp_path}/{name}/{WEIGHTS}") for name in ("begun", "on"))
    assert before["linear.weights.table.weight"].abs().max() > 0.1
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-4)


def test_gauc_by_a_field_is_measured_on_validation_and_test_rows(trained):
    outcome, without = trained(gauc_field="A"), trained()
    for metrics in (outcome.valid, outcome.test):
        assert 0 < metrics.gauc < 1
    assert "valid_gauc" in outcome.best_epoch.curves()
    assert without.valid.gauc is None


def test_a_training_that_is_profiled_leaves_its_trace(dataset_url, tmp_path):
    order = WorkOrder(dataset_url, f"file://{tmp_path}", settings(), num_threads=1, profile_steps=2)
    run_worker(order, SingleWorld())
    assert {path.name for path in tmp_path.iterdir()} >= {TRACE, TABLE}


def test_both_stages_of_an_fnn_leave_their_traces(fnn_order, tmp_path):
    run_worker(replace(fnn_order(num_epochs=2), profile_steps=2), SingleWorld())
    assert {path.name for path in tmp_path.glob("*trace*")} == {TRACE, f"fm_{TRACE}"}
    fm, fnn = (gzip.decompress((tmp_path / name).read_bytes()).decode() for name in (f"fm_{TRACE}", TRACE))
    # Only the FNN has a hidden layer.
    assert ("aten::relu" in fm, "aten::relu" in fnn) == (False, True)


def test_a_cut_off_run_goes_on_in_its_folder_and_ends_as_if_it_was_not_cut(
    dataset_url, tmp_path, monkeypatch
):
    def order(name, **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return WorkOrder(
            dataset_url,
            f"file://{folder}",
            settings(max_epochs=3, patience=3),
            num_threads=1,
            checkpoint_every_n_steps=1,
            **changes,
        )

    whole = run_worker(order("whole"), SingleWorld())
    save, saved = Checkpoints.save, []

    def save_and_fall(self, position, *state):
        save(self, position, *state)
        saved.append(position.step)
        if len(saved) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", save_and_fall)
        with pytest.raises(KeyboardInterrupt):
            run_worker(order("cut"), SingleWorld())
    again = run_worker(order("cut", resume=True), SingleWorld())
    weights = [load_weights(f"file://{tmp_path}/{name}/weights.safetensors") for name in ("whole", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (again.valid, again.test, again.training.best) == (whole.valid, whole.test, whole.training.best)
    assert [epoch.train_logloss for epoch in again.training.epochs] == [
        epoch.train_logloss for epoch in whole.training.epochs
    ]


def test_to_resume_without_a_checkpoint_is_to_begin(dataset_url, tmp_path):
    order = WorkOrder(dataset_url, f"file://{tmp_path}", settings(), num_threads=1, resume=True)
    assert len(run_worker(order, SingleWorld()).training.epochs) == 2


def test_without_the_order_no_checkpoint_is_written(dataset_url, tmp_path):
    run_worker(WorkOrder(dataset_url, f"file://{tmp_path}", settings(), num_threads=1), SingleWorld())
    assert not list(tmp_path.glob("*.checkpoint.*"))
