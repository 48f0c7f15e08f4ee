"""What every job shares: exit status, the one line of JSON at the end, a Spark session from a profile."""

import json
import logging
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps

# Jobs take click from here: nothing that a bare Python lacks is imported before this is told.
try:
    import click
    import pyspark
    from py4j.protocol import Py4JJavaError, Py4JNetworkError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
    from spark_console import set_up_java

    from deepfm.config import load_settings
    from deepfm.doctor.profile import spark_obstacle
    from deepfm.errors import JobFailed, UserError
    from deepfm.java import require_java
    from deepfm.profile import Profile
except ModuleNotFoundError as missing:
    todo = "run `. .venv/bin/activate` in the project's folder, after `make env` where there is no .venv yet"
    print(f"error: {sys.executable} has no {missing.name}: {todo}", file=sys.stderr)
    sys.exit(2)

logger = logging.getLogger(__name__)

_VERBOSE = "deepfm.verbose"
#: Of Python on the executors.
_WORKER_ENVIRONMENT = {
    "PYTHONWARNINGS": "ignore::FutureWarning",  # petastorm's, of pyarrow
    # Every batch wants the memory that the last one freed. By default it goes back to the kernel, which
    # clears each page anew: an eighth of what a night's workers do.
    "ARROW_DEFAULT_MEMORY_POOL": "mimalloc",
    "MALLOC_MMAP_THRESHOLD_": 32 << 20,
    "MALLOC_TRIM_THRESHOLD_": (1 << 31) - 1,
}

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
        except click.Abort:
            sys.exit(130)


def job(function: Callable[..., dict]) -> Callable[..., None]:
    """Turn a function that returns the job's summary into a command with the jobs' contract.

    The command takes --verbose. The summary is the last line of stdout, as JSON. Exit status 0: done. 2: a
    mistake of the user's, or no MLflow within the profile's retry_s when the job starts, told in one line on
    stderr. 1: anything else; where it is no fault of ours in one line too, else with its stack trace.
    """

    @wraps(function)
    def run(verbose: bool, **flags) -> None:
        click.get_current_context().meta[_VERBOSE] = verbose
        _log_to_stderr(verbose)
        if not verbose:
            warnings.filterwarnings("ignore", category=FutureWarning)
        started = time.monotonic()
        try:
            summary = function(**flags)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except JobFailed as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except Exception as error:
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


def is_verbose() -> bool:
    """Whether the job that runs was asked to be."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_VERBOSE))


def _user_error_of_a_task(error: Exception) -> UserError | None:
    """The user's mistake that a task of Spark's met, told in its stack trace; None for other errors."""
    if not isinstance(error, (Py4JJavaError, PySparkException)):
        return None
    told = re.search(rf"^{UserError.__module__}\.{UserError.__name__}: (.*)$", str(error), re.MULTILINE)
    return told and UserError(told[1])


def _of_a_lost_store(error: Exception) -> JobFailed | UserError | None:
    """What to tell of an error that says that MLflow's store is away or lets nobody in; None for others."""
    if "mlflow" not in sys.modules:
        return None
    from deepfm.registry.away import as_told  # after MLflow, whose import takes seconds

    return as_told(error)


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


@contextmanager
def spark_session(profile: Profile, name: str) -> Iterator[SparkSession]:
    """A session with the profile's properties; those given to spark-submit win over them.

    UserError where there is no Java to start it on, no such master or no GPU.
    """
    # Of the executors; PySpark takes it from the environment alone, where spark-submit puts its own flag's.
    os.environ.setdefault("PYSPARK_PYTHON", str(profile.spark.get("spark.pyspark.python", sys.executable)))
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        # Started by spark-submit: connect to its JVM first, which holds what its flags and files said.
        SparkContext._ensure_initialized()
    else:
        require_java(os.environ)
    conf = SparkConf()
    for key, value in profile.spark.items():
        conf.setIfMissing(key, str(value).lower() if isinstance(value, bool) else str(value))
    for variable, content in _WORKER_ENVIRONMENT.items():
        conf.setIfMissing(f"spark.executorEnv.{variable}", str(content))
    if obstacle := spark_obstacle(dict(conf.getAll())):
        raise UserError(obstacle)
    set_up_java(conf, verbose=is_verbose())
    logger.info("starting Spark on %s", conf.get("spark.master"))
    try:
        spark = SparkSession.builder.appName(name).config(conf=conf).getOrCreate()
    except Py4JJavaError as error:
        # All that Spark says of a master that takes no application from here, a minute later.
        if "stopped SparkContext" not in str(error):
            raise
        master = conf.get("spark.master")
        raise UserError(
            f"spark.master: expected one that takes this job, found {master}, which does not; "
            f"is its spark.authenticate.secret this job's, and its Spark {pyspark.__version__}?"
        ) from error
    # A Parquet log's timestamps become text in the session's zone, which else is the machine's, and times are
    # read as UTC: the same log would have other days elsewhere.
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.sparkContext.setLogLevel("WARN" if is_verbose() else "ERROR")
    try:
        yield spark
    finally:
        # Where the JVM is gone there is nothing to stop, and what the job came to must not be hidden by it.
        with suppress(ConnectionError, Py4JNetworkError):
            spark.stop()


def load_profile(path: str) -> Profile:
    """The profile, or UserError."""
    return load_settings(path, Profile)
