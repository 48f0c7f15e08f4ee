"""Spark session with the properties of a profile, whether python or spark-submit started the job."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyspark
from py4j.protocol import Py4JNetworkError
from pyspark import SparkConf
from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.cli.job import is_verbose
from deepfm.cli.spark.logging import start_jvm
from deepfm.cli.spark.start import start_session
from deepfm.cli.spark.submit import is_submitted, set_master_from_profile, warn_if_heap_is_small
from deepfm.errors import JobFailedError, UserError
from deepfm.settings.deployment import Profile
from deepfm.spark.environment import environment_error, master_error, session_error
from deepfm.spark.internals import connect_jvm, set_login_user
from deepfm.spark.java import require_java
from deepfm.spark.local_machine import (
    host_settings,
    native_library_options,
    raise_open_files_limit,
    user_name,
)

logger = logging.getLogger(__name__)

#: Environment variables of Python on the executors.
_WORKER_ENVIRONMENT = {
    "PYTHONWARNINGS": "ignore::FutureWarning",  # petastorm's, about pyarrow
    # Each batch needs the memory that the previous one freed. By default it is returned to the kernel, which
    # zeroes each page again: an eighth of the time of a scoring task.
    "ARROW_DEFAULT_MEMORY_POOL": "mimalloc",
    "MALLOC_MMAP_THRESHOLD_": 32 << 20,
    "MALLOC_TRIM_THRESHOLD_": (1 << 31) - 1,
}
#: Kept columns are published as they were read. By default Spark writes 96-bit timestamps, which have no zone
#: and overflow in other readers before 1678 and after 2261, and refuses times before 1900.
_PARQUET = {
    "outputTimestampType": "TIMESTAMP_MICROS",
    "datetimeRebaseModeInWrite": "CORRECTED",
    "int96RebaseModeInWrite": "CORRECTED",
}


@contextmanager
def spark_session(profile: Profile, name: str) -> Iterator[SparkSession]:
    """Open a session with the profile's properties; properties given to spark-submit override them.

    During the block Ctrl-C raises KeyboardInterrupt and does nothing else.

    Raises UserError if Java is missing, a GPU is missing, or the environment points to another Spark, and
    JobFailedError if the master is unreachable.
    """
    master = str(profile.spark.get("spark.master", "local[*]"))
    if error := environment_error(os.environ, sys.executable, pyspark.__version__, master):
        raise UserError(error)
    # Python of the executors. PySpark reads it from the environment only, where spark-submit puts its flag.
    os.environ.setdefault("PYSPARK_PYTHON", str(profile.spark.get("spark.pyspark.python", sys.executable)))
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if is_submitted():
        connect_jvm()  # this JVM holds the flags and configuration files of spark-submit
    else:
        require_java(os.environ)
    conf = SparkConf()
    properties = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in profile.spark.items()
    }
    if is_submitted():
        set_master_from_profile(properties, conf)
        warn_if_heap_is_small(properties, conf)
    for key, value in properties.items():
        conf.setIfMissing(key, value)
    for variable, content in _WORKER_ENVIRONMENT.items():
        conf.setIfMissing(f"spark.executorEnv.{variable}", str(content))
    if error := session_error(dict(conf.getAll())):
        raise UserError(error)
    if unreachable := master_error(conf.get("spark.master", "")):
        problem, remedy = unreachable
        raise JobFailedError(f"spark.master: {problem}; {remedy}")
    _adapt_to_machine(conf, profile)
    start_jvm(conf, verbose=is_verbose())
    if user_name(os.getuid()) is None:
        set_login_user(os.environ["HADOOP_USER_NAME"])
    logger.info("starting Spark on %s", conf.get("spark.master"))
    spark = start_session(conf.setAppName(name))
    # The timestamps of a Parquet log become text in the session's time zone, by default the machine's, and
    # times are read as UTC: on another machine the same log would have other days.
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    for name, setting in _PARQUET.items():
        spark.conf.set(f"spark.sql.parquet.{name}", setting)
    spark.sparkContext.setLogLevel("WARN" if is_verbose() else "ERROR")
    try:
        yield spark
    finally:
        # If the JVM is gone there is nothing to stop, and the job's own error must not be hidden.
        with suppress(ConnectionError, Py4JNetworkError):
            spark.stop()


def _adapt_to_machine(conf: SparkConf, profile: Profile) -> None:
    """Let Spark start where the host name does not resolve, /tmp is noexec or few open files are allowed."""
    if is_submitted():
        return  # Java runs already
    raise_open_files_limit()
    properties = dict(conf.getAll())
    for name, setting in host_settings(properties, os.environ).items():
        os.environ.setdefault(name, setting)
    key = "spark.driver.extraJavaOptions"
    if user_name(os.getuid()) is None:
        # Java does not read HOME; its folder of such a user is "?".
        conf.set(key, f"{conf.get(key, '')} -Duser.home={os.environ['HOME']}")
    if properties.get("spark.master", "local").startswith("local"):
        work = storage.local_path(storage.absolute_url(profile.work_dir))
        folders = [Path(name) for name in (work, tempfile.gettempdir(), "/var/tmp", "/dev/shm") if name]
        if options := native_library_options(properties, os.environ, folders):
            conf.set(key, f"{conf.get(key, '')} {options}")
