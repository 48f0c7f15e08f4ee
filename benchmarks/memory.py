"""The memory of a process and all it started, watched while they work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil


@dataclass
class Peak:
    """Resident bytes at the most; what processes share counts once for each."""

    num_bytes: int = 0  # of all together
    first: int = 0  # of the process itself
    java: int = 0  # of the largest Java process
    worker: int = 0  # of the largest other one

    @property
    def gib(self) -> float:
        return in_gib(self.num_bytes)


def in_gib(num_bytes: int) -> float:
    return round(num_bytes / 2**30, 2)


@contextmanager
def peak_memory(pid: int) -> Iterator[Peak]:
    """Looks twice a second, for the time of the block."""
    peak, stop = Peak(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            _look(pid, peak)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _look(pid: int, peak: Peak) -> None:
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
