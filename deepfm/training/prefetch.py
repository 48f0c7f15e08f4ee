"""Prefetching of an iterable by a background thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")

_DONE = object()


def prefetch(items: Iterable[T], depth: int = 4, stream: torch.cuda.Stream | None = None) -> Iterator[T]:
    """Yield the same items in the same order, produced by a thread that is up to `depth` items ahead.

    An exception raised by `items` is raised here, at its position among the items.

    `stream`: CUDA stream of the work that produces the items, parallel to the consumer's. The consumer's
    work waits for an item on the device. It must keep an item until its work on it is done: the memory is
    used again by the next items.
    """
    produced: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                produced.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        # Applies to this thread only: more threads than cores would slow the training step.
        torch.set_num_threads(1)
        try:
            with torch.cuda.stream(stream):
                for item in items:
                    if not put((item, stream.record_event() if stream else None, None)):
                        break
                else:
                    put((_DONE, None, None))
        except BaseException as error:
            put((_DONE, None, error))
        finally:
            if hasattr(items, "close"):
                items.close()  # closes a reader's threads and files if the consumer stopped early

    # A daemon, because it may wait forever for the ids of a rank that is lost.
    threading.Thread(target=produce, daemon=True, name="prefetch").start()
    try:
        while True:
            item, ready, error = produced.get()
            if error is not None:
                raise error
            if item is _DONE:
                return
            if ready is not None:
                torch.cuda.current_stream().wait_event(ready)
            yield item
    finally:
        stopped.set()
