"""Where MLflow is: an address without secrets in it, which answers, if need be after a while."""

import http.client
import logging
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from deepfm.errors import UserError

_SQLITE = "sqlite:///"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0

logger = logging.getLogger(__name__)


class TrackingUnavailableError(UserError):
    """Nothing usable is at an address; the message says what was found and what to do."""


def without_credentials(uri: str) -> tuple[str, str | None, str | None]:
    """http://USER:PASSWORD@HOST -> (http://HOST, USER, PASSWORD); None for what it does not have."""
    scheme, separator, rest = uri.partition("://")
    # By the last @: a password may hold one, or a slash, that should have been written %40 or %2F.
    credentials, at, host = rest.rpartition("@")
    if not (separator and at) or scheme in ("sqlite", "file"):
        return uri, None, None
    user, _, password = credentials.partition(":")
    return f"{scheme}://{host}", unquote(user), unquote(password)


def require_reachable(uri: str, retry_s: float) -> None:
    """Raise TrackingUnavailableError if `uri` (without credentials) does not answer within `retry_s`."""
    if uri.startswith(_SQLITE):
        _require_database(Path(uri.removeprefix(_SQLITE)).absolute(), uri, retry_s)
    elif uri.startswith(("http://", "https://")):
        _with_back_off(lambda: _ask(uri), retry_s)
    # Databricks is found by its own settings, and answers nobody without them.
    elif uri != "databricks" and not uri.startswith("databricks://"):
        raise UserError(
            f"tracking URI {uri}: expected sqlite:///FILE, http(s)://SERVER or databricks[://PROFILE]"
        )


def num_retries(retry_s: float, first_wait_s: float = 2.0) -> int:
    """Of waits that double from the first one: as many as fit into `retry_s`, at least one."""
    count = 1
    while first_wait_s * (2 ** (count + 1) - 1) <= retry_s:
        count += 1
    return count


def _with_back_off(attempt: Callable[[], None], retry_s: float) -> None:
    deadline, wait_s = time.monotonic() + retry_s, _FIRST_WAIT_S
    while True:
        try:
            return attempt()
        except TrackingUnavailableError as error:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise
            logger.warning("%s; trying again for %.0f s", str(error).partition(";")[0], left_s)
            time.sleep(min(wait_s, left_s))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _ask(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise TrackingUnavailableError(
                f"{uri}: the MLflow server answers {error}; look at its log"
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
            f"{uri}: its folder cannot be made: {error}; choose another --tracking-uri"
        ) from error
    try:
        with closing(sqlite3.connect(path, timeout=retry_s)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.OperationalError as error:
        raise TrackingUnavailableError(
            f"{uri}: expected a database to write into, found after {retry_s:g} s: {error}; end the process "
            "that holds it, or choose another --tracking-uri"
        ) from error
    except sqlite3.DatabaseError:
        pass  # MLflow says what it is in its place
