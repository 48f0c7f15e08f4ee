"""Work done ahead of its use, by a thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")

_DONE = object()


def prefetch(items: Iterable[T], depth: int = 4) -> Iterator[T]:
    """The same items in the same order, made by a thread that stays up to `depth` of them ahead.

    What making them raises is raised here, in its place among the items.
    """
    made: queue.Queue = queue.Queue(depth)
    left = threading.Event()

    def put(item: object) -> bool:
        while not left.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        # Of this thread alone: a second team of as many threads as a step has would make the step's wait.
        torch.set_num_threads(1)
        try:
            for item in items:
                if not put((item, None)):
                    break
            else:
                put((_DONE, None))
        except BaseException as error:
            put((_DONE, error))
        finally:
            if hasattr(items, "close"):
                items.close()  # a reader's threads and files, where the rest is not wanted

    # A daemon: where another rank is gone, its thread may wait for that rank's ids for ever.
    threading.Thread(target=make, daemon=True, name="ahead").start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is _DONE:
                return
            yield item
    finally:
        left.set()
