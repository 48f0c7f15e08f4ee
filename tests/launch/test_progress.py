"""Progress of rank 0: the driver shows it and passes on every epoch once, in order."""

import json
import logging
import time

import pytest

from deepfm.launch import progress
from deepfm.launch.progress import ProgressWriter, monitor_progress
from deepfm.launch.run_channel import RunChannel
from deepfm.launch.step_metrics import StepMetrics
from deepfm.training.schedule import EpochSteps, ResumedEpoch


@pytest.fixture
def run_url(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_SEND_EVERY_S", 0.02)
    return f"file://{tmp_path}"


def writer_of(url, **training):
    writer = ProgressWriter(RunChannel(url))
    writer.start(**training)
    return writer


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_epoch_is_passed_on_once_and_in_order(run_url):
    writer, seen = writer_of(run_url, steps=EpochSteps(2), max_epochs=3), []
    with monitor_progress(run_url, seen.append):
        writer.on_epoch({"epoch": 1})
        wait_until(lambda: seen)
        writer.on_epoch({"epoch": 2})
        writer.on_epoch({"epoch": 3})
    assert seen == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]


def test_a_run_without_progress_has_no_epochs(run_url):
    seen = []
    with monitor_progress(run_url, seen.append):
        pass
    assert seen == []


def test_an_epoch_whose_logging_failed_is_passed_on_later(run_url, caplog):
    writer, seen = writer_of(run_url, steps=EpochSteps(2), max_epochs=2), []

    def fail_once(metrics):
        if not caplog.records:
            raise ConnectionError("no answer")
        seen.append(metrics)

    with monitor_progress(run_url, fail_once):
        writer.on_epoch({"epoch": 1})
        writer.on_epoch({"epoch": 2})
        wait_until(lambda: seen)
    assert seen == [{"epoch": 1}, {"epoch": 2}]
    assert "no answer" in caplog.text


def test_an_error_of_the_training_is_raised(run_url):
    with pytest.raises(ValueError, match="broken"), monitor_progress(run_url, lambda _: None):
        raise ValueError("broken")


def test_steps_are_sent_about_once_a_second(tmp_path):
    writer = writer_of(f"file://{tmp_path}", steps=EpochSteps(1000), max_epochs=1)
    writer.on_step(1, 1, 0.7, 100.0)
    writer.on_step(1, 2, 0.6, 100.0)
    state = json.loads((tmp_path / "progress.json").read_text())
    assert (state["epoch"], state["step"], state["logloss"]) == (1, 1, 0.7)


def test_without_a_terminal_progress_is_one_line_per_minute(run_url, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_LOG_EVERY_S", 0.0)
    writer = writer_of(run_url, steps=EpochSteps(10), max_epochs=3)
    with monitor_progress(run_url, lambda _: None):
        writer.on_step(2, 4, 0.512, 12345.6)
        wait_until(lambda: caplog.messages)
    line = "epoch=2/3 step=4/10 samples_per_s=12346 logloss=0.5120 max_remaining_steps=16"
    assert caplog.messages[0] == line


def test_epochs_of_restarted_workers_are_passed_on(run_url):
    writer, seen = writer_of(run_url, steps=EpochSteps(2), max_epochs=4), []
    with monitor_progress(run_url, seen.append):
        writer.on_epoch({"epoch": 1})
        writer.on_epoch({"epoch": 2})
        wait_until(lambda: len(seen) == 2)
        again = writer_of(run_url, steps=EpochSteps(2), max_epochs=4)  # resumed after the second epoch
        again.on_epoch({"epoch": 3})
    assert seen == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]


def test_progress_of_an_earlier_training_is_not_passed_on(run_url):
    writer_of(run_url, steps=EpochSteps(2), max_epochs=3).on_epoch({"epoch": 1})
    seen = []
    with monitor_progress(run_url, seen.append):
        writer_of(run_url, steps=EpochSteps(2), max_epochs=3).on_epoch({"epoch": 2})
    assert seen == [{"epoch": 2}]


def test_points_within_epochs_are_means_over_their_steps(run_url):
    writer, points = writer_of(run_url, steps=EpochSteps(2), max_epochs=2, prefix="fm_"), []
    with monitor_progress(run_url, lambda _: None, points.extend):
        # Means of the epoch so far, of steps with logloss 0.8, 0.6 and 0.5, 0.1.
        for epoch, step, mean in ((1, 1, 0.8), (1, 2, 0.7), (2, 1, 0.5), (2, 2, 0.3)):
            writer.on_step(epoch, step, mean, 100.0)
        writer.on_epoch({"epoch": 2})
    assert [point["step"] for point in points] == [1, 2, 3, 4]
    losses = [point["fm_train_logloss_by_step"] for point in points]
    assert losses == pytest.approx([0.8, 0.6, 0.5, 0.1])
    assert progress.read_step_metrics(run_url) == points


def test_points_are_limited_and_none_covers_the_steps_before_a_resume(run_url):
    metrics = StepMetrics(EpochSteps(1000))
    steps = [step for step in range(1, 1001) if metrics.point(1, step, 0.5)]
    assert steps == list(range(20, 1001, 20))
    # Resumed after step 30, where the mean of the epoch was 0.6; all later steps have 0.2.
    again = StepMetrics(EpochSteps(1000))
    means = {step: (30 * 0.6 + (step - 30) * 0.2) / step for step in range(31, 61)}
    points = [again.point(2, step, mean) for step, mean in means.items()]
    (at_40, at_60) = [point for point in points if point]
    assert at_60 == {"step": 1060, "train_logloss_by_step": pytest.approx(0.2)}
    assert at_40["step"] == 1040


#: Half of the rows of epoch 2 were read in 40 steps; 10 steps of other ranks read the rest.
RESUMED = EpochSteps(20, 80, ResumedEpoch(2, num_steps_before=80, num_done=40, share_done=0.5, num_left=10))


def test_points_after_a_resume_with_other_ranks_continue_their_axis():
    metrics = StepMetrics(RESUMED)
    # The mean is over rows: 0.6 before, then 0.2; 40 steps had as many rows as 10 now have.
    means = {step: (10 * 0.6 + (step - 40) * 0.2) / (step - 30) for step in range(41, 51)}
    points = [metrics.point(2, step, mean) for step, mean in means.items()]
    points += [metrics.point(3, 1, 0.1), metrics.point(4, 1, 0.1)]
    assert [point["step"] for point in points] == [*range(121, 131), 131, 151]
    losses = [point["train_logloss_by_step"] for point in points]
    assert losses[1:] == pytest.approx([0.2] * 9 + [0.1] * 2)


def test_progress_counts_the_steps_of_a_resumed_epoch(run_url, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_LOG_EVERY_S", 0.0)
    writer = writer_of(run_url, steps=RESUMED, max_epochs=3)
    with monitor_progress(run_url, lambda _: None):
        writer.on_step(2, 44, 0.5, 100.0)
        wait_until(lambda: caplog.messages)
    line = "epoch=2/3 step=44/50 samples_per_s=100 logloss=0.5000 max_remaining_steps=26"
    assert caplog.messages[0] == line


def test_epochs_of_an_earlier_training_of_the_run_stay(tmp_path):
    writer = writer_of(f"file://{tmp_path}", steps=EpochSteps(10), max_epochs=1)
    writer.on_epoch({"epoch": 1, "fm_valid_auc": 0.7})
    writer.start(steps=EpochSteps(10), max_epochs=2)
    writer.on_epoch({"epoch": 1, "valid_auc": 0.8})
    state = json.loads((tmp_path / "progress.json").read_text())
    assert state["epochs"] == [{"epoch": 1, "fm_valid_auc": 0.7}, {"epoch": 1, "valid_auc": 0.8}]
    assert state["max_epochs"] == 2


def test_the_metrics_of_an_epoch_are_logged(run_url, caplog):
    caplog.set_level(logging.INFO)
    writer = writer_of(run_url, steps=EpochSteps(2), max_epochs=3)
    with monitor_progress(run_url, lambda _: None):
        writer.on_epoch(
            {"epoch": 1, "train_logloss": 0.51234567, "valid_auc": 0.75, "samples_per_s": 12345.6}
        )
        wait_until(lambda: caplog.messages)
    assert caplog.messages == ["epoch=1 train_logloss=0.51235 valid_auc=0.75 samples_per_s=12346"]
