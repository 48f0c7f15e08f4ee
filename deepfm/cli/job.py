"""Contract of every job: common flags, exit statuses, logging, and the JSON summary on the last line."""

import json
import logging
import math
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn

import click
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from deepfm.cli.operations.alerts import report_outcome
from deepfm.environment_faults import to_fault_error
from deepfm.errors import IncompleteError, JobFailedError, UserError
from deepfm.settings import conf_files
from deepfm.settings.deployment import Profile
from deepfm.spark.local_machine import user_settings
from deepfm.tracking.uri import public_uri

logger = logging.getLogger(__name__)

_VERBOSE = "deepfm.verbose"


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received; a KeyboardInterrupt, so that libraries clean up as after Ctrl-C."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


class JobCommand(click.Command):
    """A command that reports an invalid flag like any other user error: in one line, with exit status 2."""

    def __init__(self, *arguments, help: str, **settings):
        # \b keeps click from rewrapping the next paragraph.
        text = help.replace("Example:\n\n", "Example:\n\n\b\n")
        super().__init__(*arguments, **{**settings, "help": text})

    def main(self, *arguments, **settings) -> Any:
        try:
            super().main(*arguments, **{**settings, "standalone_mode": False})
        except click.ClickException as error:
            click.echo(f"error: {' '.join(error.format_message().split())}; see --help", err=True)
            sys.exit(2)
        except click.Abort as error:  # click converts KeyboardInterrupt to Abort
            cause = error.__cause__ or error.__context__
            sys.exit(128 + (cause.number if isinstance(cause, TerminatedError) else signal.SIGINT))


def job(function: Callable[..., dict]) -> Callable[..., None]:
    """Convert a function that returns the job's summary into a command with the jobs' contract.

    The command takes --verbose. The summary is the last line of stdout, as JSON. Exit statuses:

    - 0: done. If some items of a batch failed, the summary is printed too, with the failures.
    - 2: invalid input or configuration, out of memory, or a fault of the machine such as a full disk; one
      line on stderr. Do not retry.
    - 1: any other failure, which may succeed if retried. One line for a JobFailedError, such as an
      unreachable MLflow or Spark master, lost workers or a run in use; else a stack trace.
    - 129, 130 and 143: stopped by SIGHUP (a closed terminal), Ctrl-C and SIGTERM.
    """

    @wraps(function)
    def run(verbose: bool, **flags) -> None:
        click.get_current_context().meta[_VERBOSE] = verbose
        _log_to_stderr(verbose)
        if not verbose:
            warnings.filterwarnings("ignore", category=FutureWarning)
        os.environ.update(user_settings(os.environ))
        _log_environment_uri(flags.get("tracking_uri"))
        started = time.monotonic()
        try:
            with _raise_on_signals():
                summary = function(**flags)
        except Exception as error:
            _end_failed(function.__name__, flags, error, started)
        _print_summary(function.__name__, summary, started)
        report_outcome(function.__name__, flags, time.monotonic() - started, summary=summary)

    return click.option(
        "--verbose", is_flag=True, help="Show the logs of Spark, Horovod, MLflow and other libraries."
    )(run)


def _log_environment_uri(tracking_uri: str | None) -> None:
    source = click.get_current_context().get_parameter_source("tracking_uri")
    if tracking_uri and source is click.core.ParameterSource.ENVIRONMENT:
        message = "MLFLOW_TRACKING_URI is set and overrides the profile: runs and models are at %s"
        logger.info(message, public_uri(tracking_uri))


@contextmanager
def _raise_on_signals() -> Iterator[None]:
    """Raise TerminatedError in the block on SIGTERM and SIGHUP: runs are closed, unfinished files removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
        raise TerminatedError(number)

    # nohup ignores SIGHUP, and so does the job then.
    numbers = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN
    ]
    previous = {number: signal.signal(number, terminate) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def is_verbose() -> bool:
    """Whether the running job has the flag --verbose."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_VERBOSE))


def _end_failed(job_name: str, flags: dict[str, Any], error: Exception, started: float) -> NoReturn:
    """Print and report an error, and exit; raise it if it is a bug, or the interrupt that preceded it."""
    job_error = to_job_error(error)
    status = 2 if isinstance(job_error, UserError) else 1
    summary: dict[str, Any] = {}
    if isinstance(job_error, IncompleteError):
        status, summary = job_error.exit_status, job_error.summary
        _print_summary(job_name, summary, started)
    if job_error:
        if is_verbose():
            logger.error("the job failed", exc_info=error)
        click.echo(f"error: {job_error}", err=True)
    # The text of an unexpected error may contain anything, also a password.
    message = str(job_error) if job_error else f"internal error, {type(error).__name__}: see the log"
    seconds = time.monotonic() - started
    report_outcome(job_name, flags, seconds, summary=summary, error=message, exit_status=status)
    if job_error is None:
        raise error
    sys.exit(status)


def to_job_error(error: Exception) -> IncompleteError | JobFailedError | UserError | None:
    """Return the error to print in one line, None for a bug; raise an interrupt that preceded it."""
    if isinstance(error, (IncompleteError, JobFailedError, UserError)):
        return error
    if interrupt := _find_interrupt(error):
        raise interrupt from None
    return task_error(error) or _tracking_error(error) or to_fault_error(error)


def _find_interrupt(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the Ctrl-C or signal that preceded an error: interrupted code may fail while it cleans up."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def task_error(error: Exception) -> UserError | JobFailedError | None:
    """Return the error with a message for the user that a Spark task raised, read from the stack trace."""
    if not isinstance(error, (Py4JJavaError, PySparkException)):
        return None
    for known in (UserError, JobFailedError):
        if match := re.search(rf"^{known.__module__}\.{known.__name__}: (.*)$", str(error), re.MULTILINE):
            return known(match[1])
    return None


def _tracking_error(error: Exception) -> JobFailedError | UserError | None:
    """Convert an error of an unreachable MLflow store or of refused credentials; None for any other error."""
    if "mlflow" not in sys.modules:
        return None
    from deepfm.tracking import errors  # only if MLflow is imported already: it takes seconds

    return errors.to_job_error(error)


def _print_summary(job_name: str, summary: dict, started: float) -> None:
    sys.stderr.flush()
    seconds = round(time.monotonic() - started, 1)
    click.echo(json.dumps({"job": job_name, **_finite(summary), "seconds": seconds}))


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None: JSON has neither (the AUC of a day without clicks is NaN)."""
    if isinstance(value, dict):
        return {key: _finite(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_finite(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _StderrHandler(logging.StreamHandler):
    """Writes to the current sys.stderr: a progress bar replaces it to print log lines above the bar."""

    stream = property(lambda self: sys.stderr)

    def __init__(self):
        logging.Handler.__init__(self)  # StreamHandler.__init__ would bind the present stream


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        handlers=[_StderrHandler()],
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    # MLflow configures its loggers from this variable when it is imported.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "INFO" if verbose else "WARNING")
    # The INFO lines of libraries would hide those of the job.
    for name in ("mlflow", "alembic", "petastorm", "fsspec", "urllib3", "horovod", "matplotlib"):
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
    if not verbose:
        # It logs the stack trace of an error that it raises as well.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        # py4j logs the stack trace of each retry to the root logger, and raises if it cannot retry.
        logging.getLogger().handlers[0].addFilter(lambda record: "py4j" not in record.pathname)


def load_profile(path: str) -> Profile:
    """Load a profile; raises UserError if it is invalid."""
    return conf_files.load_profile(path)
