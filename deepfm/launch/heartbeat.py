"""Signs of life: each worker leaves one every few seconds, and the driver says whose stay away."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from deepfm import storage


def heartbeat_url(run_url: str, rank: int) -> str:
    """Where a rank leaves its signs of life."""
    return f"{run_url}/pulse-{rank}.json"


@contextmanager
def heartbeat(run_url: str, rank: int, every_s: float) -> Iterator[None]:
    """Leave a sign of life while the block runs; a process that is stopped or lost leaves none."""

    def beat(stop: threading.Event) -> None:
        number = 0
        while True:
            # A shared filesystem that is away for a moment is no reason to stop a training.
            with suppress(OSError):
                sign = {"beat": number, "host": socket.gethostname(), "over": False}
                storage.write_json(heartbeat_url(run_url, rank), sign)
            number += 1
            if stop.wait(every_s):
                return

    try:
        with background_thread(beat, "pulse"):
            yield
    finally:
        # What the block came to must not be lost for want of a last sign.
        with suppress(OSError):
            storage.write_json(heartbeat_url(run_url, rank), {"beat": -1, "host": "", "over": True})


@contextmanager
def background_thread(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Do some work beside the block; the event that it is given says that the block is over."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class HeartbeatMonitor:
    """What the driver knows of the workers' signs of life, by its own clock: theirs may differ."""

    def __init__(self, run_url: str, num_workers: int):
        """Forgets those that an earlier try left."""
        self._urls = {rank: heartbeat_url(run_url, rank) for rank in range(num_workers)}
        for url in self._urls.values():
            storage.remove(url)
        self._seen: dict[int, tuple[dict, float]] = {}  # the last sign, and when it was new

    def silent(self, now: float | None = None) -> dict[int, tuple[str, float]]:
        """Of the ranks that have begun and not ended: {rank: (host, seconds since its last sign)}."""
        now = time.monotonic() if now is None else now
        for rank, url in self._urls.items():
            if storage.exists(url):
                sign = storage.read_json(url)
                if rank not in self._seen or self._seen[rank][0] != sign:
                    self._seen[rank] = (sign, now)
        return {rank: (sign["host"], now - at) for rank, (sign, at) in self._seen.items() if not sign["over"]}


@contextmanager
def monitor_heartbeats(
    pulses: HeartbeatMonitor,
    *,
    warn_after_s: float,
    give_up_after_s: float,
    on_warning: Callable[[str], None],
    give_up: Callable[[str], None],
) -> Iterator[None]:
    """While the block runs, tell of each rank that falls silent, and once that it is given up."""

    def watch(stop: threading.Event) -> None:
        told: set[int] = set()
        while not stop.wait(warn_after_s / 6):
            try:
                silent = pulses.silent()
            except OSError:
                continue  # the workers' folder is away for a moment; so are their signs
            for rank, (host, seconds) in silent.items():
                where = f"rank {rank} on {host} has shown no sign of life for {seconds:.0f} s"
                if seconds >= give_up_after_s:
                    give_up(where)
                    return
                if seconds >= warn_after_s and rank not in told:
                    on_warning(f"{where}; the others wait for it, for {give_up_after_s:.0f} s at most")
                    told.add(rank)
                if seconds < warn_after_s:
                    told.discard(rank)

    with background_thread(watch, "silence"):
        yield
