"""Signs of life: who is told of, when, and who is not."""

import time

from deepfm import storage
from deepfm.launch.heartbeat import HeartbeatMonitor, heartbeat, heartbeat_url, monitor_heartbeats


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sign(url, rank, beat, over=False):
    storage.write_json(heartbeat_url(url, rank), {"beat": beat, "host": "one", "over": over})


def test_a_rank_is_silent_since_its_last_new_sign_by_the_drivers_clock(tmp_path):
    url = f"file://{tmp_path}"
    pulses = HeartbeatMonitor(url, 2)
    sign(url, 0, beat=0), sign(url, 1, beat=0)
    assert pulses.silent(now=10) == {0: ("one", 0), 1: ("one", 0)}
    sign(url, 0, beat=1)
    assert pulses.silent(now=15) == {0: ("one", 0), 1: ("one", 5)}


def test_ranks_that_have_not_begun_or_have_ended_are_not_silent(tmp_path):
    url = f"file://{tmp_path}"
    pulses = HeartbeatMonitor(url, 3)
    sign(url, 0, beat=0), sign(url, 1, beat=7, over=True)
    assert set(pulses.silent(now=0)) == {0}


def test_signs_of_an_earlier_try_are_forgotten(tmp_path):
    sign(f"file://{tmp_path}", 0, beat=3)
    assert HeartbeatMonitor(f"file://{tmp_path}", 1).silent() == {}


def test_a_rank_that_beats_is_never_told_of_and_one_that_fell_silent_once_then_given_up(tmp_path):
    url = f"file://{tmp_path}"
    warnings, given_up = [], []
    with (
        monitor_heartbeats(
            HeartbeatMonitor(url, 2),
            warn_after_s=0.6,
            give_up_after_s=2.0,
            on_warning=warnings.append,
            give_up=given_up.append,
        ),
        heartbeat(url, 0, every_s=0.05),
    ):
        sign(url, 1, beat=0)
        wait_until(lambda: given_up)
    assert [text[:29] for text in warnings] == ["rank 1 on one has shown no si"]
    assert warnings[0].endswith("the others wait for it, for 2 s at most")
    assert given_up == ["rank 1 on one has shown no sign of life for 2 s"]
    assert storage.read_json(heartbeat_url(url, 0))["over"]


def test_a_folder_that_is_gone_does_not_hide_what_the_block_came_to(tmp_path):
    (tmp_path / "run").mkdir()

    def work():
        with heartbeat(f"file://{tmp_path}/run/x/y", 0, every_s=0.01):
            return "done"

    assert work() == "done"
