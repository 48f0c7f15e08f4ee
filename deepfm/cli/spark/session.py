"""A Spark session from a profile, whether python or spark-submit started the job."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyspark
from py4j.protocol import Py4JNetworkError
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from deepfm.cli.job import is_verbose
from deepfm.cli.spark.logging import set_up_java
from deepfm.cli.spark.start import started
from deepfm.cli.spark.submit import is_submitted, leave_master_to, warn_of_small_heap
from deepfm.errors import UserError
from deepfm.settings.deployment import Profile
from deepfm.spark.environment import environment_error, session_error
from deepfm.spark.java import require_java

logger = logging.getLogger(__name__)

#: Of Python on the executors.
_WORKER_ENVIRONMENT = {
    "PYTHONWARNINGS": "ignore::FutureWarning",  # petastorm's, of pyarrow
    # Every batch wants the memory that the last one freed. By default it goes back to the kernel, which
    # clears each page anew: an eighth of what a night's workers do.
    "ARROW_DEFAULT_MEMORY_POOL": "mimalloc",
    "MALLOC_MMAP_THRESHOLD_": 32 << 20,
    "MALLOC_TRIM_THRESHOLD_": (1 << 31) - 1,
}


@contextmanager
def spark_session(profile: Profile, name: str) -> Iterator[SparkSession]:
    """A session with the profile's properties; those given to spark-submit win over them.

    Ctrl-C raises KeyboardInterrupt, and nothing else, while it lasts. UserError where there is no Java to
    start it on, no such master or no GPU, or the shell leads to another Spark.
    """
    master = str(profile.spark.get("spark.master", "local[*]"))
    if error := environment_error(os.environ, sys.executable, pyspark.__version__, master):
        raise UserError(error)
    # Of the executors; PySpark takes it from the environment alone, where spark-submit puts its own flag's.
    os.environ.setdefault("PYSPARK_PYTHON", str(profile.spark.get("spark.pyspark.python", sys.executable)))
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if is_submitted():
        SparkContext._ensure_initialized()  # its Java holds what spark-submit's flags and files said
    else:
        require_java(os.environ)
    conf = SparkConf()
    of_profile = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in profile.spark.items()
    }
    if is_submitted():
        leave_master_to(of_profile, conf)
        warn_of_small_heap(of_profile, conf)
    for key, value in of_profile.items():
        conf.setIfMissing(key, value)
    for variable, content in _WORKER_ENVIRONMENT.items():
        conf.setIfMissing(f"spark.executorEnv.{variable}", str(content))
    if error := session_error(dict(conf.getAll())):
        raise UserError(error)
    set_up_java(conf, verbose=is_verbose())
    logger.info("starting Spark on %s", conf.get("spark.master"))
    spark = started(conf.setAppName(name))
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
