"""Exclusive ownership of an output, on any filesystem and across machines.

An owner is a small JSON file next to or in what it owns, which its process rewrites every few seconds. A
process that ends without removing it, or stops writing it, is replaced by the next one. Locks of a filesystem
are not used: object stores have none, and network filesystems often do not pass them on.
"""

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import psutil

from deepfm import storage
from deepfm.errors import JobFailedError

#: Seconds between two heartbeats of an owner, and without one after which another process takes over.
HEARTBEAT_S, STALE_S = 5.0, 30.0
#: Seconds in which a process that has seen no other claim becomes owner.
_SETTLE_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claim:
    """Content of an owner's file."""

    token: str
    host: str
    machine: str  # see _this_machine
    pid: int
    started: str  # see _start_of: pids are used again
    since: str
    beat: int = 0
    is_owner: bool = False  # False: about to become owner, unless another process does
    replaced: tuple[str, ...] = ()  # tokens of the owners without heartbeat that it has replaced


class Ownership:
    """The right to write an output, held by this process until another one takes it over."""

    def __init__(self, folder_url: str, label: str, name: str, remedy: str):
        """`label`: of the files in the folder; `name` and `remedy`: for the error of another process."""
        self._folder_url, self._prefix = folder_url, f"_{label}.owner."
        self._name, self._remedy = name, remedy
        self.is_interrupted = False  # the main thread was interrupted because the ownership is lost
        self._claim = _Claim(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            machine=_this_machine(),
            pid=os.getpid(),
            started=_start_of(os.getpid()) or "",
            since=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def acquire(self) -> None:
        """Become the owner; raise JobFailedError if another process is, or is about to be."""
        storage.make_folder(self._folder_url)
        replaced = []
        for other in self._others():
            if self._is_alive(other):
                raise self._in_use(other)
            logger.warning(
                "%s: replacing process %d on %s, which has ended", self._name, other.pid, other.host
            )
            storage.remove(self._url(other.token))
            replaced.append(other.token)
        self._claim = replace(self._claim, replaced=tuple(replaced))
        self._write()
        try:
            self._require_first()
        except BaseException:
            self.release()
            raise
        self._claim = replace(self._claim, is_owner=True)
        self._write()

    def _require_first(self) -> None:
        """Of several processes that claim at the same moment, let one continue."""
        others = self._others()
        if not others:
            return
        if any(other.is_owner or other.token < self._claim.token for other in others):
            raise self._in_use(others[0])
        time.sleep(_SETTLE_S)
        if others := self._others():
            raise self._in_use(others[0])

    def require(self) -> None:
        """Raise JobFailedError if another process has taken over; call it before results become visible."""
        if self.is_lost():
            raise self.lost_error()

    def lost_error(self) -> JobFailedError:
        """Build the error of a process that another one has replaced."""
        return JobFailedError(
            f"{self._name}: another process has taken over, because this one sent no heartbeat for "
            f"{STALE_S:g} s; nothing was published, the other process does it"
        )

    def heartbeat(self) -> bool:
        """Show that this process is alive; return whether it is still the owner."""
        if self.is_lost():
            return False
        self._claim = replace(self._claim, beat=self._claim.beat + 1)
        self._write()
        return True

    def release(self) -> None:
        """End the ownership."""
        storage.remove(self._url(self._claim.token))

    def is_lost(self) -> bool:
        """Whether another process has taken over, so that files at the output are no longer this one's."""
        if any(self._claim.token in other.replaced for other in self._others()):
            return True
        return not storage.exists(self._url(self._claim.token))

    def _is_alive(self, other: _Claim) -> bool:
        if other.machine == self._claim.machine:
            return _start_of(other.pid) == other.started
        deadline = time.monotonic() + STALE_S
        logger.info("%s: waiting for a heartbeat of process %d on %s", self._name, other.pid, other.host)
        while time.monotonic() < deadline:
            time.sleep(min(HEARTBEAT_S / 5, STALE_S / 5))
            latest = self._read(self._url(other.token))
            if latest is None or latest.beat != other.beat:
                return latest is not None
        return False

    def _in_use(self, other: _Claim) -> JobFailedError:
        return JobFailedError(
            f"{self._name} is in use by process {other.pid} on {other.host} since {other.since}; wait until "
            f"it ends, or {self._remedy}"
        )

    def _others(self) -> list[_Claim]:
        """Claims of other processes."""
        names = [name for name in storage.all_names(self._folder_url) if name.startswith(self._prefix)]
        urls = [f"{self._folder_url}/{name}" for name in names if self._claim.token not in name]
        return [claim for claim in map(self._read, urls) if claim]

    def _read(self, url: str) -> _Claim | None:
        try:
            document = storage.read_json(url)
            return _Claim(**{**document, "replaced": tuple(document["replaced"])})
        except FileNotFoundError:
            return None

    def _write(self) -> None:
        storage.write_json(self._url(self._claim.token), asdict(self._claim))

    def _url(self, token: str) -> str:
        return f"{self._folder_url}/{self._prefix}{token}.json"


def is_owner_file(name: str) -> bool:
    """Whether a name is that of an owner's file."""
    return name.startswith("_") and ".owner." in name


@contextmanager
def exclusive_ownership(folder_url: str, label: str, name: str, remedy: str) -> Iterator[Ownership]:
    """Own an output during the block; the owner's file is in `folder_url`, with `label` in its name.

    Raise JobFailedError if another process owns it. `name` says what is in use, `remedy` what to do instead
    of waiting.
    """
    is_new = not storage.exists(folder_url)
    ownership = Ownership(folder_url, label, name, remedy)
    ownership.acquire()
    stop = threading.Event()
    thread = threading.Thread(target=_send_heartbeats, args=(ownership, stop), daemon=True, name="ownership")
    thread.start()
    try:
        yield ownership
    except KeyboardInterrupt:
        if ownership.is_interrupted:
            raise ownership.lost_error() from None
        raise
    finally:
        stop.set()
        thread.join()
        try:
            ownership.release()
            if is_new:
                storage.remove_empty_folder(folder_url)
        except Exception as error:
            # A failing filesystem must not replace the error of the block. The file then becomes stale.
            logger.warning("%s: its owner's file was not removed: %s", name, error)


def _send_heartbeats(ownership: Ownership, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            if ownership.heartbeat():
                continue
        except Exception as error:
            # A shared filesystem that fails for a moment is no reason to stop a job. Which exceptions it
            # raises depends on its library.
            logger.warning("no heartbeat could be written: %s", error)
            continue
        logger.error("%s", ownership.lost_error())
        ownership.is_interrupted = True
        # Otherwise this job would go on to write files of the other process. A signal ends a blocking call.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return


def _start_of(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot of its machine; None if it has ended.

    Not psutil's create_time, which changes with the clock.
    """
    try:
        # The name of the program, in parentheses, may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        with suppress(psutil.Error):  # a system without /proc
            return str(psutil.Process(pid).create_time())
        return None
    state, started = fields[0], fields[19]
    return None if state in "ZX" else started  # ended, but its parent has not asked for the status


def _this_machine() -> str:
    """Identify the machine, its boot and its process namespace: only there can a pid be checked."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
