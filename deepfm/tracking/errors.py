"""A call of MLflow that failed for what is not in our hands: told in one line in place of a stack trace."""

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from deepfm.errors import JobFailedError, UserError

#: What a call of a store that is away, or locked, may raise.
FAILURES = (MlflowException, SQLAlchemyError, requests.exceptions.RequestException)
_NOT_LET_IN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_NOT_NOW = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


def reason_of(error: Exception) -> str:
    """What a failed call of MLflow came to, in a few words."""
    cause = _cause(error)
    if isinstance(cause, SQLAlchemyError):  # whose text has the statement, and goes over several lines
        return str(getattr(cause, "orig", None) or cause)
    if isinstance(cause, requests.exceptions.ConnectionError):
        return "no MLflow server answers there"
    if is_access_denied(error):
        return "the MLflow server does not let this user do that"
    return " ".join(str(getattr(error, "message", error)).split())


def as_told(error: BaseException) -> JobFailedError | UserError | None:
    """The one line for a store that is away or lets nobody in; None for any other error."""
    if not isinstance(error, FAILURES):
        return None
    uri = mlflow.get_tracking_uri()
    if is_access_denied(error):
        return access_denied(uri)
    if _is_away(_cause(error)) or getattr(error, "error_code", None) in _NOT_NOW:
        return JobFailedError(
            f"{uri}: MLflow was lost on the way: {reason_of(error)}; run again when it is back"
        )
    return None


def access_denied(uri: str) -> UserError:
    """For a user that the server does not know, or that may not do this."""
    return UserError(
        f"{uri}: expected a user whom this MLflow server lets do that, found none; set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ask its administrator for the permission"
    )


def is_access_denied(error: BaseException) -> bool:
    """Whether a server refused the user, or what the user may do."""
    if isinstance(error, requests.exceptions.HTTPError):  # of a file on its way
        return error.response is not None and error.response.status_code in (401, 403)
    return getattr(error, "error_code", None) in _NOT_LET_IN


def _is_away(cause: BaseException) -> bool:
    if isinstance(cause, requests.exceptions.HTTPError):
        return cause.response is not None and cause.response.status_code in (429, *range(500, 600))
    return isinstance(cause, (OperationalError, requests.exceptions.RequestException))


def _cause(error: BaseException) -> BaseException:
    """What MLflow wrapped."""
    wrapped = error.__cause__ or error.__context__ if isinstance(error, MlflowException) else None
    return wrapped or error
