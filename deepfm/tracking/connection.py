"""Connection to an MLflow store by MLflow's own client, with retries and one-line errors."""

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import mlflow
import sqlalchemy
from mlflow import environment_variables
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from sqlalchemy.exc import ArgumentError

from deepfm.errors import UserError
from deepfm.lock import brief_lock, lock_file
from deepfm.tracking.errors import (
    FAILURES,
    access_denied_error,
    failure_reason,
    is_access_denied,
    is_unreachable,
    proxy_hint,
    tls_error,
)
from deepfm.tracking.uri import (
    TrackingUnavailableError,
    host_of,
    is_database,
    is_server,
    num_retries,
    public_uri,
    scheme_of,
    sqlite_path,
)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
#: Seconds to wait for another process that creates the tables of a database, which takes 10 s or more.
_MIGRATION_S = 300
#: Seconds that a server may take to answer the check.
_ANSWER_S = 10
#: Without it, drivers wait for minutes for a host that drops packets.
_CONNECT_TIMEOUTS = {"postgresql": {"connect_timeout": _ANSWER_S}, "mysql": {"connect_timeout": _ANSWER_S}}
#: Parts of the error of a process that creates tables while another one does.
_RACES = ("already exists", "duplicate", "alembic_version", "database is locked", "can't locate revision")
_PLUGINS = {"azureml": "azureml-mlflow", "arn": "sagemaker-mlflow"}

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def connect(uri: str, registry_uri: str | None, retry_s: float) -> mlflow.MlflowClient:
    """Open MLflow's client and ask it for an experiment, for at most about `retry_s` seconds.

    `uri` may contain a database's password. `registry_uri`: of the model registry; None: the store's own, or
    Unity Catalog on Databricks. Raise TrackingUnavailableError if the store is unreachable or locked,
    UserError if it cannot be used at all.
    """
    with _first_use(uri):
        return _retry_with_backoff(lambda: _ask(uri, registry_uri, retry_s), retry_s)


def _ask(uri: str, registry_uri: str | None, retry_s: float) -> mlflow.MlflowClient:
    shown = public_uri(uri)
    if is_server(uri) and not host_of(uri):
        raise UserError(f"{shown}: expected http(s)://HOST[:PORT], found no host or an invalid port")
    try:
        if path := sqlite_path(uri):
            _require_writable(path, shown, retry_s)
        elif is_database(uri):
            _require_database(uri)
        with _single_attempt():
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=registry_uri)
            client.search_experiments(max_results=1)
            return client
    except (UserError, TrackingUnavailableError):
        raise
    except (ImportError, *FAILURES, OSError, ValueError) as error:
        raise connection_error(uri, error) from error


def connection_error(uri: str, error: Exception) -> UserError | TrackingUnavailableError:
    """Convert the error of a first call of a store at `uri`."""
    shown, reason = public_uri(uri), failure_reason(error)
    if is_access_denied(error):
        return access_denied_error(uri)
    if message := tls_error(error):
        return UserError(f"{shown}: {message}")
    if isinstance(error, UnsupportedModelRegistryStoreURIException):
        package = _PLUGINS.get(scheme_of(uri))
        remedy = f"pip install {package}" if package else "install its MLflow plugin"
        return UserError(
            f"{shown}: MLflow has no store for {scheme_of(uri) or 'paths'}; {remedy}, or choose another "
            "--tracking-uri"
        )
    if isinstance(error, ImportError):
        return UserError(f"{shown}: the database's driver is missing: {error}; pip install {error.name}")
    if is_unreachable(error) and (is_server(uri) or _is_transient(uri, reason)):
        start = "start one with `mlflow server`" if is_server(uri) else "start the database"
        return TrackingUnavailableError(
            f"{shown}: {reason}{proxy_hint(uri)}; {start}, or check --tracking-uri"
        )
    return UserError(f"{shown}: MLflow cannot use this store: {reason}; choose another --tracking-uri")


def _is_transient(uri: str, reason: str) -> bool:
    # Of a SQLite file, any other error is permanent: it is not a database, or has another schema.
    return sqlite_path(uri) is None or any(part in reason for part in _RACES)


@contextmanager
def _single_attempt() -> Iterator[None]:
    """Make MLflow's requests fail at once during the block: this module retries, and says so."""
    retries = environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES
    timeout = environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT
    before = [(variable, variable.get_raw()) for variable in (retries, timeout)]
    retries.set(0)
    timeout.set(_ANSWER_S)
    try:
        yield
    finally:
        for variable, value in before:
            variable.unset() if value is None else variable.set(value)


def set_request_retries(retry_s: float) -> None:
    """Make each request of MLflow's client retry for about `retry_s` seconds."""
    environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(num_retries(retry_s))


def _first_use(uri: str) -> AbstractContextManager[None]:
    """Exclude other processes of this machine: two that create one SQLite database's tables both fail."""
    path = sqlite_path(uri)
    if path is None:
        return nullcontext()
    name = f"mlflow-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    # In a temporary folder, because the database may be on a network filesystem without locks.
    return brief_lock(lock_file("", name), _MIGRATION_S)


def _retry_with_backoff(attempt: Callable[[], Result], retry_s: float) -> Result:
    deadline, wait_s = time.monotonic() + retry_s, _FIRST_WAIT_S
    while True:
        try:
            return attempt()
        except TrackingUnavailableError as error:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise
            logger.warning("%s; retrying for %.0f s", str(error).partition(";")[0], remaining_s)
            time.sleep(min(wait_s, remaining_s))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _require_writable(path: Path, shown: str, retry_s: float) -> None:
    """Wait for a SQLite database that another process has locked."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{shown}: its folder cannot be created: {error}; choose another --tracking-uri"
        ) from error
    try:
        with closing(sqlite3.connect(path, timeout=retry_s)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.OperationalError as error:
        message = f"{shown}: the database cannot be written after {retry_s:g} s: {error}"
        if "locked" in str(error):
            raise TrackingUnavailableError(
                f"{message}; end the process that holds it, or choose another --tracking-uri"
            ) from error
        raise UserError(f"{message}; check its permissions, or choose another --tracking-uri") from error
    except sqlite3.DatabaseError:
        pass  # not a database: MLflow reports it


def _require_database(uri: str) -> None:
    """Connect to a database once: MLflow itself would try for minutes."""
    try:
        sqlalchemy.make_url(uri)
    except (ArgumentError, ValueError):
        # Without the library's text, which contains a part of the password.
        raise UserError(
            f"{public_uri(uri)}: expected the address of a database; write special characters of the user "
            "and password as %40 (@), %3A (:) or %2F (/)"
        ) from None
    arguments = _CONNECT_TIMEOUTS.get(scheme_of(uri), {})
    engine = sqlalchemy.create_engine(uri, connect_args=arguments)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
