"""The driver stops a training between two epochs: every rank after the same, none for want of an answer."""

import threading

import pytest

from deepfm.distributed.collectives import SingleWorld
from deepfm.launch import prune_signal as verdict
from deepfm.launch.job_spec import WorkOrder
from deepfm.launch.progress import watched
from deepfm.launch.prune_signal import ask_driver, give_verdict
from deepfm.launch.worker import run_worker
from deepfm.settings.model import ModelSettings
from deepfm.training.result import outcome_from_json, outcome_to_json


@pytest.fixture
def order(dataset_url, tmp_path):
    """order(asks_driver=True) -> five epochs of a small model, whatever they come to."""

    def make(model="deepfm", **settings):
        deep = {} if model == "fm" else {"deep": {"hidden_units": [4]}}
        training = {"batch_size": 8, "max_epochs": 5, "patience": 9, "learning_rate": 0.01}
        content = {"model": model, "embedding_dim": 2, **deep, "training": training}
        return WorkOrder(
            dataset_url,
            f"file://{tmp_path}",
            ModelSettings.model_validate(content),
            num_threads=1,
            **settings,
        )

    return make


def judged(order, work, last):
    """work(order) under a driver that lets `last` epochs be trained -> what it gives, the epochs it saw."""
    seen = []

    def on_epoch(metrics):
        seen.append(dict(metrics))
        if "valid_logloss" in metrics:
            give_verdict(order.run_url, int(metrics["epoch"]), metrics["epoch"] < last)

    with watched(order.run_url, on_epoch, 0.01):
        return work(order), seen


@pytest.mark.parametrize("last", [1, 3])
def test_both_ranks_stop_after_the_epoch_that_was_the_last_one_worth_it(order, in_ranks, last):
    outcomes, seen = judged(
        order(asks_driver=True), lambda order: in_ranks(2, lambda world: run_worker(order, world)), last
    )
    for outcome in outcomes:
        assert (len(outcome.training.epochs), outcome.training.stopped) == (last, True)
        assert outcome.valid == outcome.best_epoch.valid
        assert outcome.test is None
        assert outcome_from_json(outcome_to_json(outcome)) == outcome
    assert [metrics["epoch"] for metrics in seen] == list(range(1, last + 1))


def test_the_last_epoch_is_not_asked_for(order):
    outcome, _ = judged(order(asks_driver=True), lambda order: run_worker(order, SingleWorld()), 5)
    assert (len(outcome.training.epochs), outcome.training.stopped) == (5, False)
    assert outcome.test.num_rows == 20


def test_who_does_not_ask_is_not_stopped(order):
    outcome, _ = judged(order(), lambda order: run_worker(order, SingleWorld()), 1)
    assert (len(outcome.training.epochs), outcome.training.stopped) == (5, False)


def test_of_an_fnn_only_the_second_stage_asks(order, caplog):
    outcome, _ = judged(order("fnn", asks_driver=True), lambda order: run_worker(order, SingleWorld()), 2)
    assert (len(outcome.first_stage.epochs), len(outcome.training.epochs)) == (5, 2)
    assert "was not judged" not in caplog.text


def test_a_verdict_on_an_earlier_epoch_is_no_answer(tmp_path):
    url = f"file://{tmp_path}"
    give_verdict(url, 1, False)
    later = threading.Timer(0.5, give_verdict, (url, 2, True))
    later.start()
    assert ask_driver(url, SingleWorld(), 2)
    later.join()


def test_without_an_answer_training_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(verdict, "_ANSWER_WITHIN_S", 0.3)
    assert ask_driver(f"file://{tmp_path}", SingleWorld(), 1)
    assert "epoch 1 was not judged" in caplog.text
