"""Tracking URIs of MLflow: separation of credentials, and reachability with retries."""

import http.client
import logging
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deepfm.errors import JobFailedError, UserError

_SQLITE = "sqlite:///"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0

logger = logging.getLogger(__name__)


class TrackingUnavailableError(JobFailedError):
    """MLflow is unreachable: nothing answers at its URI, or its database is locked. A retry may succeed."""


def split_credentials(uri: str) -> tuple[str, str | None, str | None]:
    """http://USER:PASSWORD@HOST -> (http://HOST, USER, PASSWORD); None for a missing part."""
    scheme, separator, rest = uri.partition("://")
    # Split at the last @: a password may contain an unescaped @ or slash.
    credentials, at, host = rest.rpartition("@")
    if not (separator and at) or scheme in ("sqlite", "file"):
        return uri, None, None
    user, _, password = credentials.partition(":")
    return f"{scheme}://{host}", unquote(user), unquote(password)


def require_reachable(uri: str, retry_s: float) -> None:
    """Raise TrackingUnavailableError if `uri` (without credentials) does not answer within `retry_s` seconds.

    Raise UserError for an invalid URI.
    """
    if uri.startswith(_SQLITE):
        _require_database(Path(uri.removeprefix(_SQLITE)).absolute(), uri, retry_s)
    elif uri.startswith(("http://", "https://")):
        _retry_with_backoff(lambda: _check_server(uri), retry_s)
    # Databricks is located by its client settings, and does not answer without them.
    elif uri != "databricks" and not uri.startswith("databricks://"):
        raise UserError(
            f"tracking URI {uri}: expected sqlite:///FILE, http(s)://SERVER or databricks[://PROFILE]"
        )


def num_retries(retry_s: float, first_wait_s: float = 2.0) -> int:
    """Return how many waits, doubling from the first one, fit into `retry_s` seconds; at least one."""
    count = 1
    while first_wait_s * (2 ** (count + 1) - 1) <= retry_s:
        count += 1
    return count


def _retry_with_backoff(attempt: Callable[[], None], retry_s: float) -> None:
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


def _check_server(uri: str) -> None:
    try:
        if not urlsplit(uri).netloc:
            raise ValueError("it names no host")
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise TrackingUnavailableError(
                f"{uri}: the MLflow server answers {error}; check its log"
            ) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise UserError(f"{uri}: no MLflow server answers there ({error}); check --tracking-uri") from error
    except (OSError, http.client.HTTPException) as error:
        raise TrackingUnavailableError(
            f"{uri}: no MLflow server answers there ({error}); start one with `mlflow server`, "
            "or check --tracking-uri"
        ) from error


def _require_database(path: Path, uri: str, retry_s: float) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{uri}: its folder cannot be created: {error}; choose another --tracking-uri"
        ) from error
    try:
        with closing(sqlite3.connect(path, timeout=retry_s)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.OperationalError as error:
        message = f"{uri}: the database cannot be written after {retry_s:g} s: {error}"
        if "locked" in str(error):
            raise TrackingUnavailableError(
                f"{message}; end the process that holds it, or choose another --tracking-uri"
            ) from error
        raise UserError(f"{message}; check its permissions, or choose another --tracking-uri") from error
    except sqlite3.DatabaseError:
        pass  # not a database: MLflow reports it
