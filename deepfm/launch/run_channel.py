"""Messages between the driver and the ranks of one run: small JSON files in the run folder.

Horovod on Spark offers no way to send anything while a training runs, and the run folder is the one place
that the driver and every worker reach.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from deepfm import storage


@dataclass(frozen=True)
class RunChannel:
    """Named messages, the latest of each; a message of a rank has the rank in its name."""

    run_url: str

    def send(self, name: str, message: dict, rank: int | None = None) -> None:
        """Replace the message `name`; readers see the old or the new one, never a part."""
        storage.write_json(self._url(name, rank), message)

    def receive(self, name: str, rank: int | None = None) -> dict | None:
        """Read the message `name`, or None if it was not sent."""
        url = self._url(name, rank)
        return storage.read_json(url) if storage.exists(url) else None

    def receive_from_ranks(self, name: str, num_ranks: int) -> dict[int, dict]:
        """Read the message `name` of every rank that sent it."""
        messages = {rank: self.receive(name, rank) for rank in range(num_ranks)}
        return {rank: message for rank, message in messages.items() if message is not None}

    def clear(self, name: str, num_ranks: int | None = None) -> None:
        """Remove the message `name`, of all ranks if `num_ranks` is given."""
        for rank in [None] if num_ranks is None else range(num_ranks):
            storage.remove(self._url(name, rank))

    def _url(self, name: str, rank: int | None) -> str:
        return f"{self.run_url}/{name}{'' if rank is None else f'-{rank}'}.json"


@contextmanager
def background_thread(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Run `work` in a thread during the block; the event it receives is set when the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def polling(poll: Callable[[], bool], every_s: float, name: str) -> Iterator[None]:
    """Call `poll` in a thread every `every_s` seconds during the block, until it returns True.

    A storage that fails for a moment is no reason to stop a training: its errors are ignored.
    """

    def work(stop: threading.Event) -> None:
        is_done = False
        while not is_done and not stop.wait(every_s):
            with suppress(*storage.FAILURES):
                is_done = poll()

    with background_thread(work, name):
        yield


def wait_until(condition: Callable[[], bool], timeout_s: float, every_s: float) -> bool:
    """Poll `condition` until it is true; False if it is not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every_s)
    return False
