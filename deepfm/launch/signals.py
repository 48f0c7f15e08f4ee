"""A training that is told to stop or is given up: its workers end, and Horovod's threads keep quiet of it."""

import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from horovod.runner import gloo_run


@contextmanager
def stop_on_signals(give_up: Callable[[str], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the workers, and then the block as they would without Horovod.

    Horovod takes both over, takes them for a worker that was lost, and keeps them after the training.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    received: list[int] = []
    register = gloo_run.register_shutdown_event

    def end(number: int, frame: object) -> None:
        received.append(number)
        # Not in this thread, which may be in the midst of a word to Java.
        threading.Thread(target=give_up, args=("the job was told to stop",), daemon=True).start()

    def register_ours() -> threading.Event:
        ended = register()
        for number in handlers:
            signal.signal(number, end)
        return ended

    gloo_run.register_shutdown_event = register_ours
    try:
        yield
    finally:
        gloo_run.register_shutdown_event = register
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received and callable(handler := handlers[received[0]]):
            handler(received[0], None)


@contextmanager
def silence_horovod_threads(given_up: list[str]) -> Iterator[None]:
    """Horovod's thread that waits for the tasks dies of a lost worker with three stack traces; we tell it.

    Once its connections are cut off, so do those that stream the workers' output, some after the block.
    """
    told = threading.excepthook

    def leave_out(arguments: threading.ExceptHookArgs) -> None:
        files = [frame.filename for frame in traceback.extract_tb(arguments.exc_traceback)]
        by_us = given_up and any("horovod" in Path(file).parts for file in files)
        if not by_us and "run_spark" not in getattr(arguments.thread, "name", ""):
            told(arguments)

    threading.excepthook = leave_out
    try:
        yield
    finally:
        if not given_up:
            threading.excepthook = told
