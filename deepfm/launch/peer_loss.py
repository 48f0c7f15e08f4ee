"""Loss of contact between workers: ranks report it, and the driver stops waiting for unreachable hosts."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import psutil

from deepfm.launch.run_channel import RunChannel, polling

MESSAGE = "peer_loss"
#: A rank that fails ends the others too, and Horovod by itself. Only if that does not happen, hosts are
#: unreachable.
_GRACE_S = 5.0
_POLL_EVERY_S = 1.0

#: Returns (host, port) of each executor; the port is not positive until the executor listens.
Executors = Callable[[], list[tuple[str, int]]]


def report_peer_loss(channel: RunChannel, rank: int) -> None:
    """Report that a collective operation of this rank failed because another rank is missing."""
    channel.send(MESSAGE, {"rank": rank, "host": socket.gethostname()}, rank)


def monitor_peer_loss(
    channel: RunChannel, num_workers: int, executors: Executors, give_up: Callable[[str], None]
) -> AbstractContextManager[None]:
    """Call `give_up` once if ranks reported a peer loss and the block still runs some seconds later."""
    reported_at: list[float] = []

    def check() -> bool:
        reports = channel.receive_from_ranks(MESSAGE, num_workers)
        if reports and not reported_at:
            reported_at.append(time.monotonic())
        if not reported_at or time.monotonic() - reported_at[0] < _GRACE_S:
            return False
        ranks = ", ".join(f"rank {report['rank']} on {report['host']}" for report in reports.values())
        give_up(f"{ranks} lost the other workers{_unreachable_hosts(executors)}")
        return True

    return polling(check, _POLL_EVERY_S, "peer loss monitor")


def _unreachable_hosts(executors: Executors) -> str:
    hosts = sorted({host for host, port in executors() if port > 0 and not _accepts_connections(host, port)})
    return f"; the driver cannot reach {', '.join(hosts)}" if hosts else ""


def _accepts_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True


@contextmanager
def close_connections_to(executors: Executors) -> Iterator[Callable[[], None]]:
    """Yield a function that closes this process's connections to other executors until the block ends.

    Horovod's driver asks each worker for its exit status and waits for an unreachable host without a limit.
    When the connection is closed, it counts the worker as failed.
    """
    is_started = threading.Event()
    hosts: set[str] = set()

    def start() -> None:
        hosts.update(host for host, _ in executors())
        is_started.set()

    def close() -> bool:
        if is_started.is_set():
            addresses = {address for host in hosts for address in _resolve(host)}
            _shut_down_connections(addresses - _local_addresses())
        return False

    with polling(close, _POLL_EVERY_S, "close connections"):
        yield start


def _local_addresses() -> set[str]:
    return {entry.address for interface in psutil.net_if_addrs().values() for entry in interface}


def _resolve(host: str) -> list[str]:
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, family=socket.AF_INET)]
    except OSError:
        return []


def _shut_down_connections(addresses: set[str]) -> None:
    for connection in psutil.Process().net_connections("tcp4"):
        if connection.raddr and connection.raddr.ip in addresses:
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
