"""Credentials are removed from URIs, and failed MLflow calls become one-line errors."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import OperationalError

from deepfm.errors import UserError
from deepfm.tracking.connection import connect
from deepfm.tracking.errors import failure_reason, to_job_error
from deepfm.tracking.uri import TrackingUnavailableError, num_retries, split_credentials


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("http://host:5000", ("http://host:5000", None, None)),
        ("https://u:p@host:5000/mlflow", ("https://host:5000/mlflow", "u", "p")),
        ("http://u:p%2Fq%40@host", ("http://host", "u", "p/q@")),
        ("http://u:p/q@r@host", ("http://host", "u", "p/q@r")),  # unescaped
        ("http://token@host", ("http://host", "token", "")),
        ("postgresql://u:p@host/db", ("postgresql://host/db", "u", "p")),
        ("sqlite:///folder@home/mlflow.db", ("sqlite:///folder@home/mlflow.db", None, None)),
    ],
)
def test_user_and_password_are_removed_from_a_uri(uri, parts):
    assert split_credentials(uri) == parts


def test_doubling_waits_fill_the_retry_time():
    # 2 s; 2 + 4; 2 + 4 + 8; …
    counts = [num_retries(seconds) for seconds in (0.1, 2, 6, 13, 14, 60, 62)]
    assert counts == [1, 1, 2, 2, 3, 4, 5]


@pytest.fixture
def locked(tmp_path):
    """A connection that locks a database until it is closed."""
    holder = sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    yield holder
    holder.close()


def test_a_locked_database_is_unavailable_after_the_retry_time(locked, tmp_path):
    started = time.monotonic()
    with pytest.raises(
        TrackingUnavailableError, match=r"the database cannot be written after 0\.3 s: database is locked"
    ):
        connect(f"sqlite:///{tmp_path}/mlflow.db", None, 0.3)
    assert 0.25 < time.monotonic() - started < 5


def test_a_briefly_locked_database_is_waited_for(locked, tmp_path):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(connect, f"sqlite:///{tmp_path}/mlflow.db", None, 30)
        time.sleep(0.3)
        assert not waiting.done()
        locked.close()
        assert waiting.result().search_experiments()


def wrapped(cause: Exception) -> MlflowException:
    """Wrap an exception as MLflow does: raised while the cause is handled."""
    error = MlflowException(f"API request to http://h failed with exception {cause}\nand more")
    error.__context__ = cause
    return error


def http_error(status: int) -> requests.exceptions.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.exceptions.HTTPError(f"{status} of a file", response=response)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (
            wrapped(requests.exceptions.ConnectionError("refused")),
            TrackingUnavailableError,
            "no MLflow server answers there (refused)",
        ),
        (
            MlflowException("SELECT\n1", TEMPORARILY_UNAVAILABLE),
            TrackingUnavailableError,
            "SELECT 1",
        ),
        (
            OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked")),
            TrackingUnavailableError,
            "database is locked",
        ),
        (
            OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
            type(None),
            "database or disk is full",
        ),
        (MlflowException("no", PERMISSION_DENIED), UserError, "refuses this user"),
        (
            wrapped(requests.exceptions.SSLError("EOF occurred in violation of protocol")),
            TrackingUnavailableError,
            "the TLS connection failed",
        ),
        (
            wrapped(requests.exceptions.SSLError("certificate verify failed: self-signed certificate")),
            UserError,
            "the TLS connection failed",
        ),
        (http_error(403), UserError, "refuses this user"),
        (http_error(503), TrackingUnavailableError, "503 of a file"),
        (http_error(404), type(None), "404 of a file"),
        (MlflowException("a parameter is wrong"), type(None), "a parameter is wrong"),
        (ValueError("ours"), type(None), "ours"),
    ],
)
def test_only_unreachable_stores_and_refused_users_become_job_errors(error, kind, reason):
    job_error = to_job_error(error)
    assert type(job_error) is kind
    assert reason in failure_reason(error) and "\n" not in failure_reason(error)
    assert job_error is None or "\n" not in str(job_error)
