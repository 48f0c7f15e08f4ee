"""What every job shares: flags, exit status, the one line of JSON at the end."""

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

import click
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from deepfm.errors import JobFailedError, UserError
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings

logger = logging.getLogger(__name__)

_VERBOSE = "deepfm.verbose"

profile_option = click.option(
    "--profile",
    "profile_path",
    default="conf/profile/local.yaml",
    show_default=True,
    help="Where the job runs: Spark, MLflow, limits.",
)
workers_option = click.option(
    "--num-workers",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Horovod processes; 0: none.",
)
tracking_option = click.option(
    "--tracking-uri", help="MLflow server or store, in place of the profile's; http://… or sqlite:///…."
)


class TerminatedError(KeyboardInterrupt):
    """A SIGTERM. Libraries that clean up after Ctrl-C, py4j among them, know it for one."""


class JobCommand(click.Command):
    """A command that tells a mistake in its flags as it tells any other: in one line, with exit status 2."""

    def __init__(self, *arguments, help: str, **settings):
        # To click, \b says that the lines of the next paragraph are to stay as they are.
        super().__init__(*arguments, help=help.replace("Example:\n\n", "Example:\n\n\b\n"), **settings)

    def main(self, *arguments, **settings) -> None:
        try:
            super().main(*arguments, **{**settings, "standalone_mode": False})
        except click.ClickException as error:
            click.echo(f"error: {' '.join(error.format_message().split())}; see --help", err=True)
            sys.exit(2)
        except click.Abort as error:  # what click makes of a KeyboardInterrupt
            by = error.__cause__ or error.__context__
            sys.exit(128 + (signal.SIGTERM if isinstance(by, TerminatedError) else signal.SIGINT))


def job(function: Callable[..., dict]) -> Callable[..., None]:
    """Turn a function that returns the job's summary into a command with the jobs' contract.

    The command takes --verbose. The summary is the last line of stdout, as JSON. Exit status 0: done. 2:
    invalid input or configuration, reported in one line on stderr; do not retry. 1: any other failure, which
    may succeed if retried; one line if MLflow is unreachable for the profile's retry_s or workers are lost,
    else a stack trace. 130 and 143: ended by Ctrl-C and SIGTERM.
    """

    @wraps(function)
    def run(verbose: bool, **flags) -> None:
        click.get_current_context().meta[_VERBOSE] = verbose
        _log_to_stderr(verbose)
        if not verbose:
            warnings.filterwarnings("ignore", category=FutureWarning)
        started = time.monotonic()
        try:
            with _ended_by_sigterm():
                summary = function(**flags)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except JobFailedError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except Exception as error:
            if ended_by := _interruption(error):
                raise ended_by from None
            told = _user_error_of_a_task(error) or _of_a_lost_store(error)
            if told is None:
                raise
            click.echo(f"error: {told}", err=True)
            sys.exit(2 if isinstance(told, UserError) else 1)
        sys.stderr.flush()
        summary["seconds"] = round(time.monotonic() - started, 1)
        click.echo(json.dumps({"job": function.__name__, **_finite(summary)}))

    shown = "Show what Spark, Horovod, MLflow and other libraries say of themselves."
    return click.option("--verbose", is_flag=True, help=shown)(run)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let a scheduler's SIGTERM unwind the block as Ctrl-C does: runs end, half-written files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # whoever sends another will not wait
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_verbose() -> bool:
    """Whether the job that runs was asked to be."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_VERBOSE))


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C or SIGTERM in whose wake an error came: what is cut off may fail on its way out."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _user_error_of_a_task(error: Exception) -> UserError | None:
    """The user's mistake that a task of Spark's met, told in its stack trace; None for other errors."""
    if not isinstance(error, (Py4JJavaError, PySparkException)):
        return None
    told = re.search(rf"^{UserError.__module__}\.{UserError.__name__}: (.*)$", str(error), re.MULTILINE)
    return told and UserError(told[1])


def _of_a_lost_store(error: Exception) -> JobFailedError | UserError | None:
    """What to tell of an error that says that MLflow's store is away or lets nobody in; None for others."""
    if "mlflow" not in sys.modules:
        return None
    from deepfm.tracking.errors import to_job_error  # after MLflow, whose import takes seconds

    return to_job_error(error)


def _finite(value: object) -> object:
    """JSON knows no nan: the AUC of a day without clicks is null."""
    if isinstance(value, dict):
        return {key: _finite(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_finite(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _StderrHandler(logging.StreamHandler):
    """To what sys.stderr is at the moment: a bar, while shown, takes it over and keeps lines above it."""

    stream = property(lambda self: sys.stderr)

    def __init__(self):
        logging.Handler.__init__(self)  # a StreamHandler's would bind the stream of now


def _log_to_stderr(verbose: bool) -> None:
    form = {"format": "%(asctime)s %(levelname)s %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}
    logging.basicConfig(handlers=[_StderrHandler()], level=logging.INFO, **form)
    # By which MLflow sets its loggers anew when it is imported.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "INFO" if verbose else "WARNING")
    # Libraries that log at INFO tell their own story; the job tells the user's.
    for noisy in ("mlflow", "alembic", "petastorm", "fsspec", "urllib3", "horovod", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)
    if not verbose:
        # It writes the stack trace of what it then raises.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        # py4j writes its retries to the root logger, stack trace and all; what it cannot retry it raises.
        logging.getLogger().handlers[0].addFilter(lambda record: "py4j" not in record.pathname)


def load_profile(path: str) -> Profile:
    """The profile, or UserError."""
    return load_settings(path, Profile)
