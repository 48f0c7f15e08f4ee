"""What rank 0 writes, the driver shows and hands on: every epoch once, in order."""

import json
import logging
import time

import pytest

from deepfm.launch import progress
from deepfm.launch.progress import ProgressWriter, monitor_progress
from deepfm.launch.step_metrics import StepMetrics


@pytest.fixture
def run_url(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_WRITE_EVERY_S", 0.02)
    return f"file://{tmp_path}"


def writer_of(url, **training):
    writer = ProgressWriter(url)
    writer.begin(**training)
    return writer


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_epoch_is_handed_on_once_and_in_order(run_url):
    writer, seen = writer_of(run_url, num_steps=2, max_epochs=3), []
    with monitor_progress(run_url, seen.append):
        writer.epoch({"epoch": 1})
        wait_until(lambda: seen)
        writer.epoch({"epoch": 2})
        writer.epoch({"epoch": 3})
    assert seen == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]


def test_a_run_that_wrote_nothing_has_no_epochs(run_url):
    seen = []
    with monitor_progress(run_url, seen.append):
        pass
    assert seen == []


def test_an_epoch_that_could_not_be_handed_on_is_handed_on_later(run_url, caplog):
    writer, seen = writer_of(run_url, num_steps=2, max_epochs=2), []

    def server_is_away_once(metrics):
        if not caplog.records:
            raise ConnectionError("no answer")
        seen.append(metrics)

    with monitor_progress(run_url, server_is_away_once):
        writer.epoch({"epoch": 1})
        writer.epoch({"epoch": 2})
        wait_until(lambda: seen)
    assert seen == [{"epoch": 1}, {"epoch": 2}]
    assert "no answer" in caplog.text


def test_an_error_of_the_training_goes_through(run_url):
    with pytest.raises(ValueError, match="broken"), monitor_progress(run_url, lambda _: None):
        raise ValueError("broken")


def test_steps_are_written_about_once_a_second_and_not_each(tmp_path):
    writer = writer_of(f"file://{tmp_path}", num_steps=1000, max_epochs=1)
    writer.step(1, 1, 0.7, 100.0)
    writer.step(1, 2, 0.6, 100.0)
    state = json.loads((tmp_path / "progress.json").read_text())
    assert (state["epoch"], state["step"], state["logloss"]) == (1, 1, 0.7)


def test_without_a_terminal_progress_is_a_line_a_minute(run_url, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    writer = writer_of(run_url, num_steps=10, max_epochs=3)
    with monitor_progress(run_url, lambda _: None):
        writer.step(2, 4, 0.512, 12345.6)
        wait_until(lambda: caplog.messages)
    line = "epoch 2/3, step 4/10, 12346 samples/s, logloss 0.5120, at most 16 steps left"
    assert caplog.messages[0] == line


def test_epochs_of_workers_that_were_started_again_are_handed_on(run_url):
    writer, seen = writer_of(run_url, num_steps=2, max_epochs=4), []
    with monitor_progress(run_url, seen.append):
        writer.epoch({"epoch": 1})
        writer.epoch({"epoch": 2})
        wait_until(lambda: len(seen) == 2)
        again = writer_of(run_url, num_steps=2, max_epochs=4)  # they go on after the second
        again.epoch({"epoch": 3})
    assert seen == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]


def test_what_was_told_before_this_training_is_not_handed_on(run_url):
    writer_of(run_url, num_steps=2, max_epochs=3).epoch({"epoch": 1})
    seen = []
    with monitor_progress(run_url, seen.append):
        writer_of(run_url, num_steps=2, max_epochs=3).epoch({"epoch": 2})
    assert seen == [{"epoch": 2}]


def test_points_within_epochs_are_means_of_their_own_steps(run_url):
    writer, points = writer_of(run_url, num_steps=2, max_epochs=2, curves="fm_"), []
    with monitor_progress(run_url, lambda _: None, points.extend):
        # Means of the epoch so far, of steps with logloss 0.8, 0.6 and 0.5, 0.1.
        for epoch, step, mean in ((1, 1, 0.8), (1, 2, 0.7), (2, 1, 0.5), (2, 2, 0.3)):
            writer.step(epoch, step, mean, 100.0)
        writer.epoch({"epoch": 2})
    assert [point["step"] for point in points] == [1, 2, 3, 4]
    found = [point["fm_train_logloss_by_step"] for point in points]
    assert found == pytest.approx([0.8, 0.6, 0.5, 0.1])
    assert progress.read_curve(run_url) == points


def test_points_are_no_more_than_can_be_looked_at_and_none_is_of_what_came_before(run_url):
    curve = StepMetrics(1000)
    steps = [step for step in range(1, 1001) if curve.point(1, step, 0.5)]
    assert steps == list(range(20, 1001, 20))
    # Taken up again after step 30, where the epoch's mean was 0.6; then all steps have 0.2.
    again = StepMetrics(1000)
    means = {step: (30 * 0.6 + (step - 30) * 0.2) / step for step in range(31, 61)}
    found = [again.point(2, step, mean) for step, mean in means.items()]
    (at_40, at_60) = [point for point in found if point]
    assert at_60 == {"step": 1060, "train_logloss_by_step": pytest.approx(0.2)}
    assert at_40["step"] == 1040


def test_epochs_of_an_earlier_training_of_the_run_stay(tmp_path):
    writer = writer_of(f"file://{tmp_path}", num_steps=10, max_epochs=1)
    writer.epoch({"epoch": 1, "fm_valid_auc": 0.7})
    writer.begin(num_steps=10, max_epochs=2)
    writer.epoch({"epoch": 1, "valid_auc": 0.8})
    state = json.loads((tmp_path / "progress.json").read_text())
    assert state["epochs"] == [{"epoch": 1, "fm_valid_auc": 0.7}, {"epoch": 1, "valid_auc": 0.8}]
    assert state["max_epochs"] == 2


def test_what_an_epoch_came_to_is_told(run_url, caplog):
    caplog.set_level(logging.INFO)
    writer = writer_of(run_url, num_steps=2, max_epochs=3)
    with monitor_progress(run_url, lambda _: None):
        writer.epoch({"epoch": 1, "train_logloss": 0.51234567, "valid_auc": 0.75, "samples_per_s": 12345.6})
        wait_until(lambda: caplog.messages)
    assert caplog.messages == ["epoch 1: train_logloss 0.51235, valid_auc 0.75, samples_per_s 12346"]
