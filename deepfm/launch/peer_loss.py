"""Hosts that no longer reach each other: workers say so, and the driver waits for none of them for ever."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from deepfm import storage
from deepfm.launch.heartbeat import background_thread

#: A rank that fails ends the others too, and Horovod by itself; only where it does not, contact is lost.
_END_WITHIN_S = 5.0
_LOOK_EVERY_S = 1.0

#: (host, port) of each executor; the port is not positive until it listens.
Executors = Callable[[], list[tuple[str, int]]]


def peer_loss_url(run_url: str, rank: int) -> str:
    """Where a rank says that it lost the others."""
    return f"{run_url}/lost-{rank}.json"


def report_peer_loss(run_url: str, rank: int) -> None:
    """This rank's part in a sum or a gathering failed for want of another's."""
    storage.write_json(peer_loss_url(run_url, rank), {"rank": rank, "host": socket.gethostname()})


def clear_peer_loss(run_url: str, num_workers: int) -> None:
    """Before another try."""
    for rank in range(num_workers):
        storage.remove(peer_loss_url(run_url, rank))


@contextmanager
def monitor_peer_loss(
    run_url: str, num_workers: int, executors: Executors, give_up: Callable[[str], None]
) -> Iterator[None]:
    """Give up once where ranks lost the others and the block has still not ended some seconds later."""

    def watch(stop: threading.Event) -> None:
        told_at = None
        while not stop.wait(_LOOK_EVERY_S):
            with suppress(OSError):  # the folder is away for a moment
                told = _told(run_url, num_workers)
                told_at = told_at or (time.monotonic() if told else None)
                if told_at and time.monotonic() - told_at >= _END_WITHIN_S:
                    give_up(f"{told} lost the other workers{_silent(executors)}")
                    return

    with background_thread(watch, "contact"):
        yield


def _told(run_url: str, num_workers: int) -> str:
    urls = [peer_loss_url(run_url, rank) for rank in range(num_workers)]
    lost = [storage.read_json(url) for url in urls if storage.exists(url)]
    return ", ".join(f"rank {found['rank']} on {found['host']}" for found in lost)


def _silent(executors: Executors) -> str:
    silent = sorted({host for host, port in executors() if port > 0 and not _answers(host, port)})
    return f"; no answer to the driver from {', '.join(silent)}" if silent else ""


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True


@contextmanager
def close_connections_to(executors: Executors) -> Iterator[Callable[[], None]]:
    """What ends, from then on, this process's connections to executors on other machines, as they come.

    Horovod's driver asks each worker how it ended, and waits for the answer of a host that is gone without a
    limit; cut off, it takes the worker for failed.
    """
    begun, hosts = threading.Event(), set()

    def begin() -> None:
        hosts.update(host for host, _ in executors())
        begun.set()

    def work(stop: threading.Event) -> None:
        while not stop.wait(_LOOK_EVERY_S):
            if begun.is_set():
                _shut_down_connections(
                    {address for host in hosts for address in _resolved(host)} - _own_addresses()
                )

    with background_thread(work, "hanging up"):
        yield begin


def _own_addresses() -> set[str]:
    return {found.address for interface in psutil.net_if_addrs().values() for found in interface}


def _resolved(host: str) -> list[str]:
    try:
        return [found[4][0] for found in socket.getaddrinfo(host, None, family=socket.AF_INET)]
    except OSError:
        return []


def _shut_down_connections(addresses: set[str]) -> None:
    for connection in psutil.Process().net_connections("tcp4"):
        if connection.raddr and connection.raddr.ip in addresses:
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as found:
                found.shutdown(socket.SHUT_RDWR)
