"""Heartbeats of workers, from which the driver detects a rank that is stopped or on a host that hangs."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from deepfm import storage
from deepfm.launch.run_channel import RunChannel, background_thread, polling

MESSAGE = "heartbeat"


@contextmanager
def heartbeat(channel: RunChannel, rank: int, every_s: float) -> Iterator[None]:
    """Send heartbeats of a rank during the block; a process that is stopped or lost sends none."""

    def send_all(stop: threading.Event) -> None:
        number = 0
        while True:
            # A shared filesystem that fails for a moment is no reason to stop a training.
            with suppress(*storage.FAILURES):
                beat = {"number": number, "host": socket.gethostname(), "is_over": False}
                channel.send(MESSAGE, beat, rank)
            number += 1
            if stop.wait(every_s):
                return

    try:
        with background_thread(send_all, "heartbeat"):
            yield
    finally:
        # A failing last heartbeat must not replace the result of the block.
        with suppress(*storage.FAILURES):
            channel.send(MESSAGE, {"number": -1, "host": "", "is_over": True}, rank)


class HeartbeatMonitor:
    """Tracks the heartbeats of all ranks by the clock of the driver; the workers' clocks may differ."""

    def __init__(self, channel: RunChannel, num_workers: int):
        """Start to track, and remove the heartbeats of an earlier attempt."""
        self._channel, self._num_workers = channel, num_workers
        channel.clear(MESSAGE, num_workers)
        self._latest: dict[
            int, tuple[dict, float]
        ] = {}  # the latest heartbeat and the time it was first seen

    def silent_ranks(self, now: float | None = None) -> dict[int, tuple[str, float]]:
        """Map each rank that has started and not ended to (host, seconds since its latest heartbeat)."""
        now = time.monotonic() if now is None else now
        for rank, beat in self._channel.receive_from_ranks(MESSAGE, self._num_workers).items():
            if rank not in self._latest or self._latest[rank][0] != beat:
                self._latest[rank] = (beat, now)
        return {
            rank: (beat["host"], now - seen_at)
            for rank, (beat, seen_at) in self._latest.items()
            if not beat["is_over"]
        }


def monitor_heartbeats(
    monitor: HeartbeatMonitor,
    *,
    warn_after_s: float,
    give_up_after_s: float,
    on_warning: Callable[[str], None],
    give_up: Callable[[str], None],
) -> AbstractContextManager[None]:
    """During the block, warn about each silent rank and call `give_up` once for one that stays silent."""
    warned: set[int] = set()

    def check() -> bool:
        for rank, (host, seconds) in monitor.silent_ranks().items():
            message = f"rank {rank} on {host} has sent no heartbeat for {seconds:.0f} s"
            if seconds >= give_up_after_s:
                give_up(message)
                return True
            if seconds >= warn_after_s and rank not in warned:
                on_warning(f"{message}; the other ranks wait for it, for at most {give_up_after_s:.0f} s")
                warned.add(rank)
            if seconds < warn_after_s:
                warned.discard(rank)
        return False

    return polling(check, warn_after_s / 6, "heartbeat monitor")
