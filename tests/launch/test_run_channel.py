"""Messages of a run: the latest of each name and rank, and polling that survives a failing storage."""

import time

import pytest

from deepfm.errors import JobFailedError
from deepfm.launch.run_channel import RunChannel, polling, wait_until


def test_the_latest_message_of_each_name_and_rank_is_received(tmp_path):
    channel = RunChannel(f"file://{tmp_path}")
    assert channel.receive("progress") is None
    channel.send("progress", {"step": 1})
    channel.send("progress", {"step": 2})
    channel.send("heartbeat", {"number": 0}, rank=1)
    assert channel.receive("progress") == {"step": 2}
    assert channel.receive_from_ranks("heartbeat", 2) == {1: {"number": 0}}


def test_a_cleared_message_is_gone_and_others_stay(tmp_path):
    channel = RunChannel(f"file://{tmp_path}")
    channel.send("progress", {"step": 1})
    channel.send("heartbeat", {"number": 0}, rank=1)
    channel.clear("heartbeat", num_ranks=2)
    assert channel.receive_from_ranks("heartbeat", 2) == {}
    channel.clear("progress")
    assert channel.receive("progress") is None


@pytest.mark.parametrize("error", [OSError, JobFailedError])
def test_polling_continues_after_an_error_of_storage_and_stops_once_done(error):
    polls = []

    def poll():
        polls.append(len(polls))
        if len(polls) == 1:
            raise error("storage unreachable")
        return len(polls) == 3

    with polling(poll, 0.01, "test"):
        assert wait_until(lambda: len(polls) == 3, timeout_s=10, every_s=0.01)
        time.sleep(0.1)
    assert polls == [0, 1, 2]


def test_waiting_for_a_condition_ends_at_the_timeout():
    assert not wait_until(lambda: False, timeout_s=0.05, every_s=0.01)
