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
from deepfm.environment_faults import fault_in_text, to_fault_error
from deepfm.spark.internals import connect_jvm, is_jvm_running, launch_jvm

#: Log settings for jobs started by python. The JVM of spark-submit is running already and has its own.
_LOG_SETTINGS = Path(__file__).resolve().with_name("log4j2.properties")
#: No setting suppresses this warning of Java: Spark's launcher always adds the module.
_SUPPRESSED = (b"WARNING: Using incubator modules",)


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
            gateway = _launch(conf, verbose=verbose)
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


def _launch(conf: SparkConf, *, verbose: bool) -> JavaGateway:
    """Start the JVM; raises an EnvironmentFaultError if its output explains why it could not start."""
    output = _JvmOutput(() if verbose else _SUPPRESSED)
    try:
        return launch_jvm(conf, {"stderr": output.write_end})
    except Exception as error:
        if fault := to_fault_error(error) or fault_in_text(output.close(), "Java could not start"):
            output.discard()
            raise fault from error
        raise
    finally:
        output.release()


class _JvmOutput:
    """Stderr of a JVM, held back until it has started: if it cannot start, one line may explain why."""

    def __init__(self, suppressed: tuple[bytes, ...]):
        self._suppressed = suppressed
        self._held: list[bytes] = []
        self._is_held, self._lock = True, threading.Lock()
        self._read_end, self.write_end = os.pipe()
        self._is_open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> str:
        """Wait for the last lines of a JVM that has ended, and return all of them."""
        self._close_write_end()
        self._reader.join(timeout=5)
        return b"".join(self._held).decode(errors="replace")

    def discard(self) -> None:
        """Do not print the held lines."""
        self._held.clear()

    def release(self) -> None:
        """Print the held lines and from now on each line at once."""
        self._close_write_end()
        with self._lock:
            os.write(2, b"".join(self._held))
            self._is_held = False
            self._held.clear()

    def _close_write_end(self) -> None:
        if self._is_open:
            os.close(self.write_end)
            self._is_open = False

    def _read(self) -> None:
        with open(self._read_end, "rb") as lines:
            for line in lines:
                if line.startswith(self._suppressed):
                    continue
                with self._lock:
                    if self._is_held:
                        self._held.append(line)
                    else:
                        os.write(2, line)
