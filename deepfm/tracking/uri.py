"""Tracking URIs of MLflow: kinds of stores, credentials and absolute paths."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deepfm.errors import JobFailedError

_SQLITE = "sqlite:///"
#: Schemes of the databases that MLflow opens itself; a driver may follow, as in mysql+pymysql.
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https")


class TrackingUnavailableError(JobFailedError):
    """MLflow is unreachable: nothing answers at its URI, or its database is locked. A retry may succeed."""


def scheme_of(uri: str) -> str:
    """Return the scheme without a driver: mysql+pymysql://… -> mysql; empty for a path."""
    return uri.partition(":")[0].partition("+")[0].lower() if ":" in uri else ""


def is_server(uri: str) -> bool:
    """Whether an MLflow server answers at the URI."""
    return scheme_of(uri) in _SERVERS


def is_database(uri: str) -> bool:
    """Whether MLflow opens the database itself, without a server."""
    return scheme_of(uri) in _DATABASES


def sqlite_path(uri: str) -> Path | None:
    """Absolute path of a SQLite database; None for any other store."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute()


def absolute_uri(uri: str) -> str:
    """Make the path of a SQLite database absolute, so that it is the same in every folder and message."""
    path = sqlite_path(uri)
    if path is None:
        return uri
    _, question_mark, options = uri.partition("?")
    return f"{_SQLITE}{path}{question_mark}{options}"


def with_installed_driver(uri: str) -> str:
    """Name the driver psycopg2 of a PostgreSQL URI without a driver if only that one is installed."""
    is_default = uri.startswith("postgresql://") and find_spec("psycopg") is None
    return (
        f"postgresql+psycopg2{uri.removeprefix('postgresql')}"
        if is_default and find_spec("psycopg2")
        else uri
    )


def split_credentials(uri: str) -> tuple[str, str | None, str | None]:
    """http://USER:PASSWORD@HOST -> (http://HOST, USER, PASSWORD); None for a missing part."""
    scheme, separator, rest = uri.partition("://")
    # Split at the last @: a password may contain an unescaped @ or slash.
    credentials, at, host = rest.rpartition("@")
    if not (separator and at) or scheme in ("sqlite", "file"):
        return uri, None, None
    user, _, password = credentials.partition(":")
    return f"{scheme}://{host}", unquote(user), unquote(password)


def public_uri(uri: str) -> str:
    """Return the URI without credentials, for messages."""
    return split_credentials(uri)[0]


def host_of(uri: str) -> str:
    """Return the host of a server's URI; empty if it names none, or has an invalid port."""
    try:
        parts = urlsplit(uri)
        _ = parts.port
        return parts.hostname or ""
    except ValueError:
        return ""


def num_retries(retry_s: float, first_wait_s: float = 2.0) -> int:
    """Return how many waits, doubling from the first one, fit into `retry_s` seconds; at least one."""
    count = 1
    while first_wait_s * (2 ** (count + 1) - 1) <= retry_s:
        count += 1
    return count
