"""Classification of failed MLflow calls: unreachable store, refused credentials, or any other error."""

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from deepfm.errors import JobFailedError, UserError
from deepfm.tracking.uri import TrackingUnavailableError

#: Exceptions that a call of an unreachable or locked store may raise.
FAILURES = (MlflowException, SQLAlchemyError, requests.exceptions.RequestException)
_ACCESS_DENIED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_UNAVAILABLE = (
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
)


def failure_reason(error: Exception) -> str:
    """Return the reason of a failed MLflow call as one short line."""
    cause = _cause(error)
    if isinstance(cause, SQLAlchemyError):  # its text quotes the statement, on several lines
        return str(getattr(cause, "orig", None) or cause)
    if isinstance(cause, requests.exceptions.ConnectionError):
        return "no MLflow server answers there"
    if is_access_denied(error):
        return "the MLflow server refuses this user"
    return " ".join(str(getattr(error, "message", error)).split())


def to_job_error(error: BaseException) -> JobFailedError | UserError | None:
    """Convert an error of an unreachable store or of refused credentials; return None for any other error."""
    if not isinstance(error, FAILURES):
        return None
    uri = mlflow.get_tracking_uri()
    if is_access_denied(error):
        return access_denied_error(uri)
    if _is_unreachable(_cause(error)) or getattr(error, "error_code", None) in _UNAVAILABLE:
        return TrackingUnavailableError(
            f"{uri}: MLflow became unreachable: {failure_reason(error)}; run again when it is reachable"
        )
    return None


def access_denied_error(uri: str) -> UserError:
    """Build the error for a user whom the server does not know, or who lacks the permission."""
    return UserError(
        f"{uri}: the MLflow server refuses this user; set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or ask its administrator for the permission"
    )


def is_access_denied(error: BaseException) -> bool:
    """Whether a server refused the user's credentials or permissions."""
    if isinstance(error, requests.exceptions.HTTPError):  # of an artifact's upload or download
        return error.response is not None and error.response.status_code in (401, 403)
    return getattr(error, "error_code", None) in _ACCESS_DENIED


def _is_unreachable(cause: BaseException) -> bool:
    if isinstance(cause, requests.exceptions.HTTPError):
        return cause.response is not None and cause.response.status_code in (429, *range(500, 600))
    return isinstance(cause, (OperationalError, requests.exceptions.RequestException))


def _cause(error: BaseException) -> BaseException:
    """Return the exception that MLflow wrapped, or the error itself."""
    wrapped = error.__cause__ or error.__context__ if isinstance(error, MlflowException) else None
    return wrapped or error
