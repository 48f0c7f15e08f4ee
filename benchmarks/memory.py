"""Peak memory of a process and its children, sampled while they run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil


@dataclass
class Peak:
    """Peak resident bytes; memory shared by processes counts once for each."""

    num_bytes: int = 0  # of all processes together
    first: int = 0  # of the given process
    java: int = 0  # of the largest Java process
    worker: int = 0  # of the largest other process

    @property
    def gib(self) -> float:
        return in_gib(self.num_bytes)


def in_gib(num_bytes: int) -> float:
    return round(num_bytes / 2**30, 2)


@contextmanager
def peak_memory(pid: int) -> Iterator[Peak]:
    """Sample twice per second during the block."""
    peak, stop = Peak(), threading.Event()

    def sample_until_stopped() -> None:
        while not stop.wait(0.5):
            _sample(pid, peak)

    thread = threading.Thread(target=sample_until_stopped, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _sample(pid: int, peak: Peak) -> None:
    try:
        first = psutil.Process(pid)
        processes = [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    total = 0
    for process in processes:
        try:
            resident, name = process.memory_info().rss, process.name()
        except psutil.NoSuchProcess:
            continue
        total += resident
        kind = "first" if process.pid == pid else "java" if name == "java" else "worker"
        setattr(peak, kind, max(getattr(peak, kind), resident))
    peak.num_bytes = max(peak.num_bytes, total)
