"""What Spark says while a job runs: errors alone, unless the job is verbose."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from py4j.java_gateway import JavaGateway
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

from deepfm.cli.spark.submit import is_submitted

#: Spark's log settings for jobs started by python; spark-submit's JVM runs already and has its own.
_LOG_SETTINGS = Path(__file__).resolve().parents[3] / "conf" / "log4j2.properties"
#: No setting keeps Java from greeting with it: Spark's launcher asks for the module, unconditionally.
_GREETING = b"WARNING: Using incubator modules"


def set_up_java(conf: SparkConf, *, verbose: bool) -> None:
    """Start the JVM with Spark's log at errors (verbose: warnings); of spark-submit's, set the level."""
    level = "WARN" if verbose else "ERROR"
    conf.setIfMissing("spark.ui.showConsoleProgress", str(verbose and sys.stderr.isatty()).lower())
    if _LOG_SETTINGS.exists():
        options = conf.get("spark.driver.extraJavaOptions", "")
        quiet = f"-Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()} -Ddeepfm.log={level}"
        conf.set("spark.driver.extraJavaOptions", f"{options} {quiet}")
    if is_submitted():
        # Its JVM is at INFO, where a context's start alone takes a page; the first lines are out already.
        conf.setIfMissing("spark.log.level", level)
    elif SparkContext._gateway is None:
        with _java_ended_with_us():
            gateway = launch_gateway(conf) if verbose else _launched_without_greeting(conf)
        SparkContext._ensure_initialized(gateway=gateway)


@contextmanager
def _java_ended_with_us() -> Iterator[None]:
    """Where the start is cut off, Java finds nobody to tell where it listens, and would stay for ever."""
    try:
        yield
    except BaseException:
        for child in psutil.Process().children(recursive=True):
            child.terminate()
        raise


def _launched_without_greeting(conf: SparkConf) -> JavaGateway:
    read_end, write_end = os.pipe()
    reader = threading.Thread(target=_pass_on, args=(read_end,), daemon=True)
    reader.start()
    try:
        return launch_gateway(conf, {"stderr": write_end})
    except Exception:
        os.close(write_end)
        write_end = None
        reader.join(timeout=5)  # what it said of its end comes before our own trace
        raise
    finally:
        if write_end is not None:
            os.close(write_end)


def _pass_on(read_end: int) -> None:
    with open(read_end, "rb") as lines:
        for line in lines:
            if not line.startswith(_GREETING):
                os.write(2, line)
