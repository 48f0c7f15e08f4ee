"""What a worker returns and leaves behind, without other workers."""

import math

import pytest
import torch

from deepfm.config import ModelSettings
from deepfm.training.checkpoint import load_weights
from deepfm.training.loop import Epoch, Training
from deepfm.training.metrics import Metrics
from deepfm.training.worker import (
    Outcome,
    WorkOrder,
    choose_device,
    outcome_from_json,
    outcome_to_json,
    run_worker,
)
from deepfm.training.world import SingleWorld


def settings(**training):
    return ModelSettings.model_validate(
        {
            "model": "deepfm",
            "embedding_dim": 2,
            "deep": {"hidden_units": [4]},
            "training": {"batch_size": 16, "max_epochs": 2, "learning_rate": 0.01, **training},
        }
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


def metrics(auc):
    return Metrics(num_rows=2, logloss=0.5, auc=auc, ctr=0.5, mean_probability=0.25)


def outcome(auc=0.75, speeds=(100.0, 300.0)):
    epochs = [Epoch(n, 0.6, metrics(auc), speed, 1.0) for n, speed in enumerate(speeds, start=1)]
    return Outcome(Training(epochs, best=2), metrics(auc), metrics(auc))


def test_outcome_comes_back_from_json_as_it_was():
    assert outcome_from_json(outcome_to_json(outcome())) == outcome()


def test_an_auc_that_is_no_number_comes_back_from_json():
    assert math.isnan(outcome_from_json(outcome_to_json(outcome(auc=math.nan))).valid.auc)


def test_best_epoch_is_the_one_that_training_names():
    assert outcome().best_epoch.number == 2


def test_samples_per_second_are_all_rows_over_all_seconds():
    # As many rows at 100 a second and at 300 a second: 150 a second.
    assert outcome().samples_per_s == pytest.approx(150)


def test_without_a_gpu_the_cpu_trains(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(1) == torch.device("cpu")


def test_workers_whose_exchange_takes_no_gpu_tensors_train_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(None) == torch.device("cpu")


@pytest.mark.parametrize(("given", "visible", "taken"), [(1, 4, 1), (3, 4, 3), (3, 1, 0)])
def test_a_worker_takes_the_gpu_it_was_given_also_where_it_sees_no_other(monkeypatch, given, visible, taken):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device(given) == torch.device("cuda", taken)
    assert chosen == [taken]
