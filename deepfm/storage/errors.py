"""Errors of an S3 server as errors of one line; those of other filesystems stay as they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from deepfm.errors import JobFailedError, UserError

#: What a call of this package may raise; for clean-ups that must not replace the error that is reported.
FAILURES = (OSError, UserError, JobFailedError)

_P = ParamSpec("_P")
_R = TypeVar("_R")

_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "NoAuthTokenError",
    "TokenRetrievalError",
    "ProfileNotFound",
)
_DENIED = (
    "403",
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
)
_OTHER_REGION = (
    "301",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
#: Codes of refused requests that succeed later; so may all answers with a status of 500 or above.
_BUSY = (
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "TooManyRequests",
)
_MISSING_OBJECT = ("404", "NoSuchKey", "NoSuchUpload")


@contextmanager
def explain_errors(url: str) -> Iterator[None]:
    """Turn an error of the S3 server or its client in the block into an error that names the URL.

    Raise UserError if the user can fix it, such as missing credentials or bucket, and JobFailedError if a
    retry may succeed. A missing object raises FileNotFoundError on all filesystems.
    """
    try:
        yield
    except (UserError, JobFailedError):
        raise
    except Exception as error:
        job_error = _to_job_error(url, error) if url.startswith(("s3://", "s3a://")) else None
        if job_error is None:
            raise
        raise job_error from error


def explained(function: Callable[Concatenate[str, _P], _R]) -> Callable[Concatenate[str, _P], _R]:
    """Decorate a function whose first argument is a URL: see `explain_errors`."""

    @wraps(function)
    def call(url: str, *arguments: _P.args, **options: _P.kwargs) -> _R:
        with explain_errors(url):
            return function(url, *arguments, **options)

    return call


def _to_job_error(url: str, error: Exception) -> UserError | JobFailedError | None:
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    # s3fs replaces an answer of the server by an OSError, and keeps it as the cause.
    cause = _find(error, (ClientError, BotoCoreError)) or error
    if isinstance(cause, ClientError):
        return _answer_error(url, cause.response)
    name = type(cause).__name__
    if name in _CREDENTIALS:
        return UserError(
            f"{url}: no usable credentials: {cause}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
            "AWS_PROFILE, or give the machine a role, for the driver and all executors"
        )
    if isinstance(cause, (ConnectionError, HTTPClientError, TimeoutError)) or name in (
        "FSTimeoutError",
        "ClientPayloadError",
        "ResponseParserError",
    ):
        return JobFailedError(
            f"{url}: the S3 server does not answer, after several attempts: {cause}; check the network and "
            "AWS_ENDPOINT_URL, and run again"
        )
    if isinstance(cause, BotoCoreError) or str(cause).startswith("Invalid endpoint"):
        return UserError(f"{url}: the S3 client refuses it: {cause}; correct the URL or the AWS settings")
    return None


def _answer_error(url: str, response: dict[str, Any]) -> UserError | JobFailedError | None:
    """Explain an answer of the server; None for a missing object."""
    code = str(response.get("Error", {}).get("Code", "unknown"))
    answer = f"{code}: {response.get('Error', {}).get('Message', 'no message')}"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    bucket = url.partition("://")[2].partition("/")[0]
    if code in _MISSING_OBJECT:
        return None
    if code == "NoSuchBucket":
        return UserError(f"{url}: the bucket {bucket} does not exist; correct the URL, or create the bucket")
    if code in _DENIED:
        return UserError(
            f"{url}: the S3 server denies access ({answer}); check the credentials, and their permissions to "
            f"list, read, write and delete in {bucket}"
        )
    if code in _OTHER_REGION:
        return UserError(f"{url}: the bucket is in another region ({answer}); set AWS_DEFAULT_REGION")
    if code in _BUSY or status >= 500:
        return JobFailedError(
            f"{url}: the S3 server is overloaded or failing, after several attempts ({answer}); run again "
            "later"
        )
    return UserError(f"{url}: the S3 server refuses the request ({answer}); check the URL and AWS settings")


def _find(error: BaseException | None, types: tuple[type[Exception], ...]) -> Exception | None:
    """Find an error of some types among an error and those that led to it."""
    while error is not None:
        if isinstance(error, types):
            return error
        error = error.__cause__ or error.__context__
    return None
