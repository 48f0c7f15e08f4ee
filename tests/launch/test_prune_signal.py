"""The driver stops a training between two epochs: all ranks after the same epoch."""

import threading

import pytest

from deepfm.distributed.collectives import SingleProcess
from deepfm.launch import prune_signal
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.progress import monitor_progress
from deepfm.launch.prune_signal import answer_prune_signal, should_continue
from deepfm.launch.rank.stages import run_worker
from deepfm.launch.run_channel import RunChannel
from deepfm.settings.model import ModelSettings
from deepfm.training.result import result_from_json, result_to_json


@pytest.fixture
def job(dataset_url, tmp_path):
    """job(asks_prune_signal=True): five epochs of a small model, whatever the metrics."""

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


def run_with_driver(job, work, last):
    """Run work(job) under a driver that allows `last` epochs; returns the result and the epochs it saw."""
    seen = []

    def on_epoch(metrics):
        seen.append(dict(metrics))
        if "valid_logloss" in metrics:
            answer_prune_signal(RunChannel(job.run_url), int(metrics["epoch"]), metrics["epoch"] < last)

    with monitor_progress(job.run_url, on_epoch, poll_every_s=0.01):
        return work(job), seen


@pytest.mark.parametrize("last", [1, 3])
def test_both_ranks_stop_after_the_same_epoch(job, in_ranks, last):
    results, seen = run_with_driver(
        job(asks_prune_signal=True),
        lambda job: in_ranks(2, lambda collectives: run_worker(job, collectives)),
        last,
    )
    for result in results:
        assert (len(result.history.epochs), result.history.stopped) == (last, True)
        assert result.valid == result.best_epoch.valid
        assert result.test is None
        assert result_from_json(result_to_json(result)) == result
    assert [metrics["epoch"] for metrics in seen] == list(range(1, last + 1))


def test_no_answer_is_needed_after_the_last_epoch(job):
    result, _ = run_with_driver(job(asks_prune_signal=True), lambda job: run_worker(job, SingleProcess()), 5)
    assert (len(result.history.epochs), result.history.stopped) == (5, False)
    assert result.test.num_rows == 20


def test_a_job_that_does_not_ask_is_not_stopped(job):
    result, _ = run_with_driver(job(), lambda job: run_worker(job, SingleProcess()), 1)
    assert (len(result.history.epochs), result.history.stopped) == (5, False)


def test_only_the_second_stage_of_an_fnn_asks(job, caplog):
    result, _ = run_with_driver(
        job("fnn", asks_prune_signal=True), lambda job: run_worker(job, SingleProcess()), 2
    )
    assert (len(result.earlier["fm"].epochs), len(result.history.epochs)) == (5, 2)
    assert "no answer" not in caplog.text


def test_an_answer_to_an_earlier_epoch_is_ignored(tmp_path):
    channel = RunChannel(f"file://{tmp_path}")
    answer_prune_signal(channel, 1, False)
    later = threading.Timer(0.5, answer_prune_signal, (channel, 2, True))
    later.start()
    assert should_continue(channel, SingleProcess(), 2)
    later.join()


def test_the_training_continues_without_an_answer(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(prune_signal, "_TIMEOUT_S", 0.3)
    assert should_continue(RunChannel(f"file://{tmp_path}"), SingleProcess(), 1)
    assert "no answer of the driver for epoch 1" in caplog.text
