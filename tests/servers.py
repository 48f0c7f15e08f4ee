"""Real servers on loopback, started on free ports and stopped at the end of their block."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
_START_TIMEOUT_S = 280


def free_port(wanted: int = 0) -> int:
    """Return a free port on loopback, or `wanted` if given."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", wanted))
        return listener.getsockname()[1]


@contextmanager
def running(
    command: list, log: Path, is_ready: Callable[[], bool], environment: dict | None = None, **options
) -> Iterator[subprocess.Popen]:
    """Start a server in a separate process group and wait until it is ready; stop it after the block."""
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}"} | (environment or {})
    with log.open("a") as output:
        server = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            start_new_session=True,
            **options,
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not is_ready():
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield server
    finally:
        stop(server)


def stop(server: subprocess.Popen) -> None:
    """Stop the server and its child processes; may be called repeatedly."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(30)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def answers(url: str) -> Callable[[], bool]:
    """Return a function that checks whether a URL is served."""

    def ask() -> bool:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            return False
        return True

    return ask


@contextmanager
def mlflow_server(
    folder: Path,
    port: int = 0,
    *,
    store: str | None = None,
    flags: tuple[str, ...] = (),
    environment: dict | None = None,
) -> Iterator[str]:
    """Start an MLflow server, on `port` or a free port -> URL; `store`: backend store instead of SQLite."""
    port = free_port(port)
    storage_flags = ["--backend-store-uri", store or f"sqlite:///{folder}/server.db"]
    storage_flags += [
        "--artifacts-destination",
        folder / "files",
        "--host=127.0.0.1",
        f"--port={port}",
        "--workers=1",
    ]
    command = [sys.executable, "-m", "mlflow", "server", *storage_flags, *flags]
    address = f"http://127.0.0.1:{port}"
    # Its job workers take half of the start time and are not needed here.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | (environment or {})
    with running(command, folder / "server.log", answers(f"{address}/health"), environment):
        yield address


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Start an S3 server that keeps its objects in memory -> URL."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with running(command, folder / "s3.log", answers(f"{address}/moto-api/")):
        yield address


@contextmanager
def faulty_proxy(folder: Path, target: str) -> Iterator[str]:
    """Start a proxy of a server at `http://HOST:PORT` that answers some requests wrongly -> URL."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, ROOT / "tests" / "faulty_proxy.py", port, target.removeprefix("http://")]
    with running(command, folder / "proxy.log", answers(f"{address}/moto-api/")):
        yield address


@contextmanager
def model_server(folder: Path, model_uri: str, tracking_uri: str) -> Iterator[str]:
    """Start `mlflow models serve` of a registered model, in this environment -> URL."""
    address = f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    flags = ["--model-uri", model_uri, "--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    command = [BIN / "mlflow", "models", "serve", *flags]
    environment = {"MLFLOW_TRACKING_URI": tracking_uri}
    with running(command, folder / "model_server.log", answers(f"{address}/ping"), environment):
        yield address


@contextmanager
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server with an empty database -> URI; skip the test if it is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("PostgreSQL is not installed below /usr/lib/postgresql")
    # PostgreSQL refuses to run as root; use the user that the Debian package creates.
    as_user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    # Not in a folder of pytest, which other users cannot read.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        if as_user:
            shutil.chown(folder, *as_user.values())
        cluster, port = Path(folder) / "cluster", free_port()
        initdb = subprocess.run(
            [programs[-1] / "initdb", "-D", cluster, "--username=mlflow", "--auth=trust", "--no-sync"],
            capture_output=True,
            text=True,
            cwd="/",
            **as_user,
        )
        assert initdb.returncode == 0, initdb.stderr
        settings = ["-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        command = [programs[-1] / "postgres", "-D", cluster, "-h", "127.0.0.1", "-p", port, *settings]
        check = [programs[-1] / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow"]

        def is_ready() -> bool:
            return subprocess.run(check).returncode == 0

        with running(command, Path(folder) / "log", is_ready, cwd="/", **as_user):
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
