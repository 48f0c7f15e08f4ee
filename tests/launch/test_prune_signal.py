"""The driver stops a training between two epochs: every rank after the same, none for want of an answer."""

import threading

import pytest

from deepfm.distributed.collectives import SingleProcess
from deepfm.launch import prune_signal as verdict
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.progress import monitor_progress
from deepfm.launch.prune_signal import answer_prune_signal, should_continue
from deepfm.launch.worker import run_worker
from deepfm.settings.model import ModelSettings
from deepfm.training.result import result_from_json, result_to_json


@pytest.fixture
def job(dataset_url, tmp_path):
    """order(asks_prune_signal=True) -> five epochs of a small model, whatever they come to."""

    def make(model="deepfm", **settings):
        deep = {} if model == "fm" else {"deep": {"hidden_units": [4]}}
        training = {"batch_size": 8, "max_epochs": 5, "patience": 9, "learning_rate": 0.01}
        content = {"model": model, "embedding_dim": 2, **deep, "training": training}
        return TrainJob(
            dataset_url,
            f"file://{tmp_path}",
            ModelSettings.model_validate(content),
            num_threads=1,
            **settings,
        )

    return make


def judged(job, work, last):
    """work(order) under a driver that lets `last` epochs be trained -> what it gives, the epochs it saw."""
    seen = []

    def on_epoch(metrics):
        seen.append(dict(metrics))
        if "valid_logloss" in metrics:
            answer_prune_signal(job.run_url, int(metrics["epoch"]), metrics["epoch"] < last)

    with monitor_progress(job.run_url, on_epoch, 0.01):
        return work(job), seen


@pytest.mark.parametrize("last", [1, 3])
def test_both_ranks_stop_after_the_epoch_that_was_the_last_one_worth_it(job, in_ranks, last):
    outcomes, seen = judged(
        job(asks_prune_signal=True),
        lambda job: in_ranks(2, lambda collectives: run_worker(job, collectives)),
        last,
    )
    for result in outcomes:
        assert (len(result.history.epochs), result.history.stopped) == (last, True)
        assert result.valid == result.best_epoch.valid
        assert result.test is None
        assert result_from_json(result_to_json(result)) == result
    assert [metrics["epoch"] for metrics in seen] == list(range(1, last + 1))


def test_the_last_epoch_is_not_asked_for(job):
    result, _ = judged(job(asks_prune_signal=True), lambda job: run_worker(job, SingleProcess()), 5)
    assert (len(result.history.epochs), result.history.stopped) == (5, False)
    assert result.test.num_rows == 20


def test_who_does_not_ask_is_not_stopped(job):
    result, _ = judged(job(), lambda job: run_worker(job, SingleProcess()), 1)
    assert (len(result.history.epochs), result.history.stopped) == (5, False)


def test_of_an_fnn_only_the_second_stage_asks(job, caplog):
    result, _ = judged(job("fnn", asks_prune_signal=True), lambda job: run_worker(job, SingleProcess()), 2)
    assert (len(result.first_stage.epochs), len(result.history.epochs)) == (5, 2)
    assert "was not judged" not in caplog.text


def test_a_verdict_on_an_earlier_epoch_is_no_answer(tmp_path):
    url = f"file://{tmp_path}"
    answer_prune_signal(url, 1, False)
    later = threading.Timer(0.5, answer_prune_signal, (url, 2, True))
    later.start()
    assert should_continue(url, SingleProcess(), 2)
    later.join()


def test_without_an_answer_training_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(verdict, "_ANSWER_WITHIN_S", 0.3)
    assert should_continue(f"file://{tmp_path}", SingleProcess(), 1)
    assert "epoch 1 was not judged" in caplog.text
