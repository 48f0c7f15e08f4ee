"""Settings that spark-submit fixes before a job reads its profile: the master and the JVM's heap."""

import logging
import os
import sys
from pathlib import Path

from pyspark import SparkConf

from deepfm.errors import UserError
from deepfm.spark.internals import jvm

#: Master that spark-submit sets if none is given.
_DEFAULT_MASTER = "local[*]"
#: Smallest share of the requested heap that Java reports as its maximum, depending on the garbage collector.
_SHARE_OF_HEAP = 0.8
_MIB = 2**20

logger = logging.getLogger(__name__)


def is_submitted() -> bool:
    """Whether spark-submit started this process, and a JVM before it."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def set_master_from_profile(profile: dict[str, str], conf: SparkConf) -> None:
    """Set the master of the profile if spark-submit was given none.

    Raises UserError for a master whose executors spark-submit itself must prepare.
    """
    master = profile.get("spark.master")
    if master is None or _is_master_given(conf):
        return
    if not master.startswith(("local", "spark://")):
        raise UserError(
            f"spark.master: the profile's {master} must be given to spark-submit, found no --master; "
            f"give it --master {master}"
        )
    conf.set("spark.master", master)


def warn_if_heap_is_small(profile: dict[str, str], conf: SparkConf) -> None:
    """Warn if the JVM of spark-submit has less memory than the profile's spark.driver.memory."""
    requested = profile.get("spark.driver.memory")
    if requested is None or conf.contains("spark.driver.memory"):
        return
    heap = jvm().java.lang.Runtime.getRuntime().maxMemory()
    if heap < _SHARE_OF_HEAP * jvm().org.apache.spark.network.util.JavaUtils.byteStringAsBytes(requested):
        logger.warning(
            "Java has %d MiB, the profile's spark.driver.memory is %s: spark-submit starts Java before it is "
            "read; give it --driver-memory %s, or run python %s instead",
            *(heap // _MIB, requested, requested, sys.argv[0]),
        )


def _is_master_given(conf: SparkConf) -> bool:
    """Whether a flag, the environment or spark-defaults.conf sets a master."""
    if conf.get("spark.master", _DEFAULT_MASTER) != _DEFAULT_MASTER:
        return True
    # Only Java's environment and command line distinguish a given local[*] from the default.
    system = jvm().java.lang.System
    if system.getenv("MASTER"):
        return True
    command = system.getProperty("sun.java.command") or ""
    spark_flags = command.partition(Path(sys.argv[0]).name)[0]
    return "--master" in spark_flags or "spark.master=" in spark_flags
