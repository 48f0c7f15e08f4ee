"""Addresses without secrets, and failed calls of MLflow told in one line."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import OperationalError

from deepfm.errors import JobFailedError, UserError
from deepfm.tracking.errors import as_told, reason_of
from deepfm.tracking.uri import TrackingUnavailableError, num_retries, require_reachable, without_credentials


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("http://host:5000", ("http://host:5000", None, None)),
        ("https://u:p@host:5000/mlflow", ("https://host:5000/mlflow", "u", "p")),
        ("http://u:p%2Fq%40@host", ("http://host", "u", "p/q@")),
        ("http://u:p/q@r@host", ("http://host", "u", "p/q@r")),  # which should have been written as above
        ("http://token@host", ("http://host", "token", "")),
        ("postgresql://u:p@host/db", ("postgresql://host/db", "u", "p")),
        ("sqlite:///folder@home/mlflow.db", ("sqlite:///folder@home/mlflow.db", None, None)),
    ],
)
def test_user_and_password_are_taken_out_of_an_address(uri, found):
    assert without_credentials(uri) == found


def test_waits_that_double_fill_the_time_that_is_given():
    # 2 s; 2 + 4; 2 + 4 + 8; …
    found = [num_retries(seconds) for seconds in (0.1, 2, 6, 13, 14, 60, 62)]
    assert found == [1, 1, 2, 2, 3, 4, 5]


@pytest.fixture
def locked(tmp_path):
    """A database that is held until it is closed."""
    holder = sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    yield holder
    holder.close()


def test_a_locked_file_is_tried_as_long_as_it_may_and_told(locked, tmp_path):
    started = time.monotonic()
    with pytest.raises(
        TrackingUnavailableError, match=r"database to write into, found after 0\.3 s: database is locked"
    ):
        require_reachable(f"sqlite:///{tmp_path}/mlflow.db", 0.3)
    assert 0.25 < time.monotonic() - started < 5


def test_a_file_that_is_locked_for_a_moment_is_waited_for(locked, tmp_path):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(require_reachable, f"sqlite:///{tmp_path}/mlflow.db", 30)
        time.sleep(0.3)
        assert not waiting.done()
        locked.close()
        assert waiting.result() is None


def wrapped(cause: Exception) -> MlflowException:
    """As MLflow raises what a library raised: while it handles that."""
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
            JobFailedError,
            "no MLflow server answers there",
        ),
        (
            MlflowException("SELECT\n1", TEMPORARILY_UNAVAILABLE),
            JobFailedError,
            "SELECT 1",
        ),
        (
            OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked")),
            JobFailedError,
            "database is locked",
        ),
        (MlflowException("no", PERMISSION_DENIED), UserError, "does not let this user"),
        (http_error(403), UserError, "does not let this user"),
        (http_error(503), JobFailedError, "503 of a file"),
        (http_error(404), type(None), "404 of a file"),
        (MlflowException("a parameter is wrong"), type(None), "a parameter is wrong"),
        (ValueError("ours"), type(None), "ours"),
    ],
)
def test_only_a_store_that_is_away_or_lets_nobody_in_is_told_in_one_line(error, kind, reason):
    told = as_told(error)
    assert type(told) is kind
    assert reason in reason_of(error) and "\n" not in reason_of(error)
    assert told is None or "\n" not in str(told)
