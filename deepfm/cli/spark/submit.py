"""What spark-submit has settled before a job reads its profile: a master, and a Java that runs already."""

import logging
import os
import sys
from pathlib import Path

from pyspark import SparkConf, SparkContext

from deepfm.errors import UserError

#: What spark-submit puts where nobody names a master.
_NO_MASTER = "local[*]"
#: Of the heap that was asked for, what Java counts as its own with the least thrifty of its collectors.
_SHARE_OF_HEAP = 0.8
_MIB = 2**20

logger = logging.getLogger(__name__)


def is_submitted() -> bool:
    """Whether spark-submit started this process, and Java before it."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def leave_master_to(profile: dict[str, str], conf: SparkConf) -> None:
    """Let the profile name the master where spark-submit was not told one.

    UserError for a master whose executors spark-submit itself must prepare.
    """
    master = profile.get("spark.master")
    if master is None or _is_named(conf):
        return
    if not master.startswith(("local", "spark://")):
        raise UserError(
            f"spark.master: expected spark-submit to be told the profile's {master}, found no --master; "
            f"give it --master {master}"
        )
    conf.set("spark.master", master)


def warn_of_small_heap(profile: dict[str, str], conf: SparkConf) -> None:
    """Where the profile asks for more memory than spark-submit, which did not know, gave Java."""
    wanted = profile.get("spark.driver.memory")
    if wanted is None or conf.contains("spark.driver.memory"):
        return
    jvm = SparkContext._jvm
    heap = jvm.java.lang.Runtime.getRuntime().maxMemory()
    if heap < _SHARE_OF_HEAP * jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes(wanted):
        logger.warning(
            "Java has %d MiB, the profile's spark.driver.memory is %s: spark-submit starts Java before it is "
            "read; give it --driver-memory %s, or run python %s in its place",
            *(heap // _MIB, wanted, wanted, sys.argv[0]),
        )


def _is_named(conf: SparkConf) -> bool:
    """Whether a flag, the environment or spark-defaults.conf named a master."""
    if conf.get("spark.master", _NO_MASTER) != _NO_MASTER:
        return True
    # Only Java's own environment and command tell a local[*] that somebody asked for.
    java = SparkContext._jvm.java.lang.System
    if java.getenv("MASTER"):
        return True
    command = java.getProperty("sun.java.command") or ""
    of_spark = command.partition(Path(sys.argv[0]).name)[0]
    return "--master" in of_spark or "spark.master=" in of_spark
