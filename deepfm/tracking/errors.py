"""Classification of failed MLflow calls: unreachable store, refused credentials, or any other error."""

import re

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from deepfm.errors import JobFailedError, UserError
from deepfm.tracking.uri import TrackingUnavailableError, host_of, is_server, public_uri

#: Exceptions that a call of an unreachable or locked store may raise.
FAILURES = (MlflowException, SQLAlchemyError, requests.exceptions.RequestException)
_ACCESS_DENIED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_UNAVAILABLE = (
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
)


#: Errors of a SQLite file that last until a user acts, see environment_faults.
_FAULTS_OF_THE_MACHINE = ("disk is full", "readonly database", "unable to open database file")
#: Errors of TLS that are about a certificate.
_CERTIFICATE = re.compile("certificate|unknown_ca|unknown ca|doesn't match|hostname mismatch", re.IGNORECASE)
#: Object and address that urllib3 puts before the reason of a failed connection.
_URLLIB3_PREFIX = re.compile(r"^\w+\(.*?\): ")


def failure_reason(error: Exception) -> str:
    """Return the reason of a failed MLflow call as one short line."""
    cause = _cause(error)
    if isinstance(cause, SQLAlchemyError):  # its text quotes the statement, on several lines
        return " ".join(str(getattr(cause, "orig", None) or cause).split())
    if isinstance(cause, requests.exceptions.SSLError):
        return f"the TLS connection failed: {_connection_detail(cause)}"
    if isinstance(cause, requests.exceptions.ProxyError):
        return f"the proxy does not connect to it: {_connection_detail(cause)}"
    if isinstance(cause, (requests.exceptions.ConnectionError, requests.exceptions.Timeout)):
        return f"no MLflow server answers there ({_connection_detail(cause)})"
    if is_access_denied(error):
        return "the MLflow server refuses this user"
    return " ".join(str(getattr(error, "message", error)).split())


def _connection_detail(error: requests.exceptions.RequestException) -> str:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return _URLLIB3_PREFIX.sub("", " ".join(str(reason or error).split()))


def to_job_error(error: BaseException) -> JobFailedError | UserError | None:
    """Convert an error of an unreachable store or of refused credentials; return None for any other error."""
    if not isinstance(error, FAILURES):
        return None
    uri = mlflow.get_tracking_uri()
    if is_access_denied(error):
        return access_denied_error(uri)
    if message := tls_error(error):
        return UserError(f"{public_uri(uri)}: {message}")
    if is_unreachable(error):
        return TrackingUnavailableError(
            f"{public_uri(uri)}: MLflow became unreachable: {failure_reason(error)}{proxy_hint(uri)}; run "
            "again when it is reachable"
        )
    return None


def access_denied_error(uri: str) -> UserError:
    """Build the error for a user whom the server does not know, or who lacks the permission."""
    return UserError(
        f"{public_uri(uri)}: the MLflow server refuses this user{proxy_hint(uri)}; set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ask its administrator for the permission"
    )


def tls_error(error: BaseException) -> str | None:
    """Return what failed and the remedy if a certificate was not accepted; None for any other error."""
    cause = _cause(error)
    if not isinstance(cause, requests.exceptions.SSLError) or not _CERTIFICATE.search(str(cause)):
        return None  # a connection that was closed may be opened again
    return (
        f"{failure_reason(cause)}; set MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE to the "
        "certificate of the company's certification authority"
    )


def proxy_hint(uri: str) -> str:
    """Name the proxy that requests to a server use, and how to avoid it; empty without a proxy."""
    if not is_server(uri):
        return ""
    proxies = requests.utils.get_environ_proxies(uri)
    proxy = requests.utils.select_proxy(uri, proxies)
    if not proxy:
        return ""
    return f" (through the proxy {public_uri(proxy)}; NO_PROXY={host_of(uri)} avoids it)"


def is_access_denied(error: BaseException) -> bool:
    """Whether a server refused the user's credentials or permissions."""
    if isinstance(error, requests.exceptions.HTTPError):  # of an artifact's upload or download
        return error.response is not None and error.response.status_code in (401, 403)
    return getattr(error, "error_code", None) in _ACCESS_DENIED


def is_unreachable(error: BaseException) -> bool:
    """Whether a store did not answer, or said that it is overloaded: a later attempt may succeed."""
    cause = _cause(error)
    if getattr(error, "error_code", None) in _UNAVAILABLE:
        return True
    if isinstance(cause, requests.exceptions.HTTPError):
        return cause.response is not None and cause.response.status_code in (429, *range(500, 600))
    if isinstance(cause, OperationalError) and any(text in str(cause) for text in _FAULTS_OF_THE_MACHINE):
        return False
    return isinstance(cause, (OperationalError, requests.exceptions.RequestException))


def _cause(error: BaseException) -> BaseException:
    """Return the exception that MLflow wrapped, or the error itself."""
    wrapped = error.__cause__ or error.__context__ if isinstance(error, MlflowException) else None
    return wrapped or error
