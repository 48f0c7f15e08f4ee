"""Lost contact: when it is told, what is told, and that nobody waits for a host that will never answer."""

import socket
import threading
import time

import pytest

from deepfm import storage
from deepfm.launch import peer_loss as contact
from deepfm.launch.peer_loss import clear_peer_loss, close_connections_to, monitor_peer_loss, peer_loss_url


@pytest.fixture
def quick(monkeypatch):
    """Seconds are hundredths."""
    monkeypatch.setattr(contact, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(contact, "_END_WITHIN_S", 0.2)


def lost(url, rank, host):
    storage.write_json(peer_loss_url(url, rank), {"rank": rank, "host": host})


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ranks_that_lost_the_others_are_given_up_with_the_executors_that_do_not_answer(tmp_path, quick):
    url, told = f"file://{tmp_path}", []
    with socket.create_server(("127.0.0.1", 0)) as there, socket.create_server(("127.0.0.2", 0)) as gone:
        answering, silent = there.getsockname(), gone.getsockname()
        gone.close()
        with monitor_peer_loss(url, 3, lambda: [answering, silent, ("new", -1)], told.append):
            lost(url, 0, "one"), lost(url, 2, "three")
            wait_until(lambda: told)
    assert told == [
        "rank 0 on one, rank 2 on three lost the other workers; no answer to the driver from 127.0.0.2"
    ]


def test_where_the_block_ends_by_itself_nothing_is_given_up(tmp_path, quick):
    url, told = f"file://{tmp_path}", []
    with monitor_peer_loss(url, 2, list, told.append):
        lost(url, 0, "one")
        time.sleep(0.1)
    assert told == []


def test_an_earlier_try_is_forgotten(tmp_path, quick):
    url, told = f"file://{tmp_path}", []
    lost(url, 1, "one")
    clear_peer_loss(url, 2)
    with monitor_peer_loss(url, 2, list, told.append):
        time.sleep(0.4)
    assert told == []


def test_a_wait_for_an_executors_answer_ends_when_contact_is_given_up(quick):
    with socket.create_server(("127.0.0.3", 0)) as executor, socket.create_server(("127.0.0.4", 0)) as other:
        waiting = socket.create_connection(executor.getsockname(), timeout=20)
        kept = socket.create_connection(other.getsockname(), timeout=20)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(waiting.recv(1)))
        thread.start()
        with close_connections_to(lambda: [executor.getsockname()]) as hang_up:
            time.sleep(0.1)
            assert thread.is_alive()
            hang_up()
            thread.join(20)
        assert answers == [b""]
        accepted, _ = other.accept()
        accepted.sendall(b"!")
        assert kept.recv(1) == b"!"
        for connection in (waiting, kept, accepted):
            connection.close()


def test_connections_of_this_machine_are_left_alone(quick):
    with socket.create_server(("127.0.0.1", 0)) as executor:
        waiting = socket.create_connection(executor.getsockname(), timeout=20)
        with close_connections_to(lambda: [executor.getsockname()]) as hang_up:
            hang_up()
            time.sleep(0.2)
        accepted, _ = executor.accept()
        accepted.sendall(b"!")
        assert waiting.recv(1) == b"!"
        waiting.close(), accepted.close()
