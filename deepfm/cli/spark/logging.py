"""Start of the JVM with Spark's log limited to errors, or to warnings for a verbose job."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from py4j.java_gateway import JavaGateway
from pyspark import SparkConf

from deepfm.cli.spark.submit import is_submitted
from deepfm.spark.internals import connect_jvm, is_jvm_running, launch_jvm

#: Log settings for jobs started by python. The JVM of spark-submit is running already and has its own.
_LOG_SETTINGS = Path(__file__).resolve().with_name("log4j2.properties")
#: No setting suppresses this warning of Java: Spark's launcher always adds the module.
_INCUBATOR_WARNING = b"WARNING: Using incubator modules"


def start_jvm(conf: SparkConf, *, verbose: bool) -> None:
    """Start the JVM with log level ERROR (verbose: WARN); for spark-submit's JVM, set the level only."""
    level = "WARN" if verbose else "ERROR"
    conf.setIfMissing("spark.ui.showConsoleProgress", str(verbose and sys.stderr.isatty()).lower())
    options = conf.get("spark.driver.extraJavaOptions", "")
    log_options = f"-Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()} -Ddeepfm.log={level}"
    conf.set("spark.driver.extraJavaOptions", f"{options} {log_options}")
    if not verbose and conf.get("spark.master", "").startswith("spark://"):
        # While it starts, Spark logs a page of stack traces for each attempt to reach a master that refuses
        # it, and raises the failure as well. The session sets the level of the job afterwards.
        conf.setIfMissing("spark.log.level", "OFF")
    if is_submitted():
        # At its level INFO the start of a context alone logs a page. Its first lines are printed already.
        conf.setIfMissing("spark.log.level", level)
    elif not is_jvm_running():
        with _terminate_jvm_on_error():
            gateway = launch_jvm(conf) if verbose else _launch_without_warning(conf)
        connect_jvm(gateway)


@contextmanager
def _terminate_jvm_on_error() -> Iterator[None]:
    """Terminate the JVM if its start is interrupted: it could not report its port and would run forever."""
    try:
        yield
    except BaseException:
        for child in psutil.Process().children(recursive=True):
            child.terminate()
        raise


def _launch_without_warning(conf: SparkConf) -> JavaGateway:
    write_end: int | None
    read_end, write_end = os.pipe()
    reader = threading.Thread(target=_forward_stderr, args=(read_end,), daemon=True)
    reader.start()
    try:
        return launch_jvm(conf, {"stderr": write_end})
    except Exception:
        os.close(write_end)
        write_end = None
        reader.join(timeout=5)  # print Java's last lines before the stack trace of Python
        raise
    finally:
        if write_end is not None:
            os.close(write_end)


def _forward_stderr(read_end: int) -> None:
    with open(read_end, "rb") as lines:
        for line in lines:
            if not line.startswith(_INCUBATOR_WARNING):
                os.write(2, line)
