"""Peer loss: the driver reports unreachable hosts and does not wait for them."""

import socket
import threading
import time

import pytest

from deepfm.launch import peer_loss
from deepfm.launch.peer_loss import MESSAGE, close_connections_to, monitor_peer_loss
from deepfm.launch.run_channel import RunChannel


@pytest.fixture
def quick(monkeypatch):
    """Poll every 10 ms and give up after 200 ms."""
    monkeypatch.setattr(peer_loss, "_POLL_EVERY_S", 0.01)
    monkeypatch.setattr(peer_loss, "_GRACE_S", 0.2)


def lost(channel, rank, host):
    channel.send(MESSAGE, {"rank": rank, "host": host}, rank)


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ranks_that_lost_the_others_are_given_up_with_the_unreachable_hosts(tmp_path, quick):
    channel, reasons = RunChannel(f"file://{tmp_path}"), []
    with socket.create_server(("127.0.0.1", 0)) as running, socket.create_server(("127.0.0.2", 0)) as closed:
        reachable, unreachable = running.getsockname(), closed.getsockname()
        closed.close()
        with monitor_peer_loss(channel, 3, lambda: [reachable, unreachable, ("new", -1)], reasons.append):
            lost(channel, 0, "one"), lost(channel, 2, "three")
            wait_until(lambda: reasons)
    assert reasons == [
        "rank 0 on one, rank 2 on three lost the other workers; the driver cannot reach 127.0.0.2"
    ]


def test_nothing_is_given_up_if_the_block_ends_by_itself(tmp_path, quick):
    channel, reasons = RunChannel(f"file://{tmp_path}"), []
    with monitor_peer_loss(channel, 2, list, reasons.append):
        lost(channel, 0, "one")
        time.sleep(0.1)
    assert reasons == []


def test_reports_of_an_earlier_attempt_are_cleared(tmp_path, quick):
    channel, reasons = RunChannel(f"file://{tmp_path}"), []
    lost(channel, 1, "one")
    channel.clear(MESSAGE, 2)
    with monitor_peer_loss(channel, 2, list, reasons.append):
        time.sleep(0.4)
    assert reasons == []


def test_a_wait_for_an_executor_ends_when_its_connections_are_closed(quick):
    with socket.create_server(("127.0.0.3", 0)) as executor, socket.create_server(("127.0.0.4", 0)) as other:
        waiting = socket.create_connection(executor.getsockname(), timeout=20)
        kept = socket.create_connection(other.getsockname(), timeout=20)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(waiting.recv(1)))
        thread.start()
        with close_connections_to(lambda: [executor.getsockname()]) as close_connections:
            time.sleep(0.1)
            assert thread.is_alive()
            close_connections()
            thread.join(20)
        assert answers == [b""]
        accepted, _ = other.accept()
        accepted.sendall(b"!")
        assert kept.recv(1) == b"!"
        for connection in (waiting, kept, accepted):
            connection.close()


def test_connections_to_this_machine_stay_open(quick):
    with socket.create_server(("127.0.0.1", 0)) as executor:
        waiting = socket.create_connection(executor.getsockname(), timeout=20)
        with close_connections_to(lambda: [executor.getsockname()]) as close_connections:
            close_connections()
            time.sleep(0.2)
        accepted, _ = executor.accept()
        accepted.sendall(b"!")
        assert waiting.recv(1) == b"!"
        waiting.close(), accepted.close()
