"""Heartbeats: the driver warns about a silent rank, then gives it up."""

import time

from deepfm.launch.heartbeat import MESSAGE, HeartbeatMonitor, heartbeat, monitor_heartbeats
from deepfm.launch.run_channel import RunChannel


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def beat(channel, rank, number, is_over=False):
    channel.send(MESSAGE, {"number": number, "host": "one", "is_over": is_over}, rank)


def test_a_rank_is_silent_since_its_last_new_heartbeat_by_the_clock_of_the_driver(tmp_path):
    channel = RunChannel(f"file://{tmp_path}")
    monitor = HeartbeatMonitor(channel, 2)
    beat(channel, 0, number=0), beat(channel, 1, number=0)
    assert monitor.silent_ranks(now=10) == {0: ("one", 0), 1: ("one", 0)}
    beat(channel, 0, number=1)
    assert monitor.silent_ranks(now=15) == {0: ("one", 0), 1: ("one", 5)}


def test_ranks_that_have_not_started_or_have_ended_are_not_silent(tmp_path):
    channel = RunChannel(f"file://{tmp_path}")
    monitor = HeartbeatMonitor(channel, 3)
    beat(channel, 0, number=0), beat(channel, 1, number=7, is_over=True)
    assert set(monitor.silent_ranks(now=0)) == {0}


def test_heartbeats_of_an_earlier_attempt_are_removed(tmp_path):
    channel = RunChannel(f"file://{tmp_path}")
    beat(channel, 0, number=3)
    assert HeartbeatMonitor(channel, 1).silent_ranks() == {}


def test_only_a_silent_rank_is_warned_about_and_given_up_once(tmp_path):
    channel = RunChannel(f"file://{tmp_path}")
    warnings, given_up = [], []
    with (
        monitor_heartbeats(
            HeartbeatMonitor(channel, 2),
            warn_after_s=0.6,
            give_up_after_s=2.0,
            on_warning=warnings.append,
            give_up=given_up.append,
        ),
        heartbeat(channel, 0, every_s=0.05),
    ):
        beat(channel, 1, number=0)
        wait_until(lambda: given_up)
    assert [text[:32] for text in warnings] == ["rank 1 on one has sent no heartb"]
    assert warnings[0].endswith("the other ranks wait for it, for at most 2 s")
    assert given_up == ["rank 1 on one has sent no heartbeat for 2 s"]
    assert channel.receive(MESSAGE, 0)["is_over"]


def test_a_missing_folder_does_not_replace_the_result_of_the_block(tmp_path):
    (tmp_path / "run").mkdir()

    def work():
        with heartbeat(RunChannel(f"file://{tmp_path}/run/x/y"), 0, every_s=0.01):
            return "done"

    assert work() == "done"
