"""Workarounds for Horovod 0.28.1: its signal handlers, the traces of its threads, the host name of Gloo.

They use private names of Horovod; tests/test_vendor_versions.py fails when its version changes.
"""

import ctypes
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from horovod.runner import gloo_run

from deepfm.errors import UserError
from deepfm.spark.local_machine import host_name_error

_CLONE_NEWUTS = 0x04000000  # of <sched.h>
_RESOLVABLE_NAME = b"localhost"


@contextmanager
def stop_on_signals(give_up: Callable[[str], None]) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the workers, then the block, as they would without Horovod.

    Horovod replaces the handlers of the first two, treats a signal as a lost worker, and keeps its handlers
    after the training. A signal that is ignored, as SIGHUP by nohup, stays ignored.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    received: list[int] = []
    register = gloo_run.register_shutdown_event

    def handle(number: int, frame: object) -> None:
        received.append(number)
        # In another thread, because this one may be in the middle of a call to Java.
        threading.Thread(target=give_up, args=("the job received a signal to stop",), daemon=True).start()

    def register_and_replace() -> threading.Event:
        event = register()
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_IGN if handler == signal.SIG_IGN else handle)
        return event

    gloo_run.register_shutdown_event = register_and_replace
    try:
        yield
    finally:
        gloo_run.register_shutdown_event = register
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received and callable(handler := handlers[signal.Signals(received[0])]):
            handler(received[0], None)


@contextmanager
def silence_horovod_threads(given_up: list[str]) -> Iterator[None]:
    """Suppress the stack traces of Horovod's threads once workers were given up; the job reports the reason.

    The thread that waits for the Spark tasks always ends with three stack traces when a worker is lost. After
    the connections were closed, the threads that stream the workers' output do too, some after the block.
    """
    original_hook = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        files = [frame.filename for frame in traceback.extract_tb(arguments.exc_traceback)]
        is_expected = given_up and any("horovod" in Path(file).parts for file in files)
        if not is_expected and "run_spark" not in getattr(arguments.thread, "name", ""):
            original_hook(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        if not given_up:
            threading.excepthook = original_hook


def make_host_name_resolve() -> None:
    """Rename the host, for this thread and those it starts, if its name does not resolve.

    Gloo resolves it even if it was given an interface, and a name that does not resolve ends the process with
    a segmentation fault. Raises UserError if the process may not rename the host.
    """
    error = host_name_error()
    if error and not _rename_host():
        raise UserError(
            f"{error}, and Horovod's workers need it; add it to /etc/hosts, or train with --num-workers 0"
        )


def require_host_name() -> None:
    """Check on the driver that `make_host_name_resolve` will work in workers on the same host."""
    errors: list[UserError] = []

    def check() -> None:
        try:
            make_host_name_resolve()
        except UserError as error:
            errors.append(error)

    thread = threading.Thread(target=check)  # of its own: the host of the driver keeps its name
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _rename_host() -> bool:
    libc = ctypes.CDLL(None)
    return libc.unshare(_CLONE_NEWUTS) == 0 and (
        libc.sethostname(_RESOLVABLE_NAME, len(_RESOLVABLE_NAME)) == 0
    )
