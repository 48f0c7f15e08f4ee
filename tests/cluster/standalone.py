"""A Spark standalone cluster from the pyspark package: one master, its workers, and jobs by spark-submit."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyspark

ROOT = Path(__file__).resolve().parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
UNPACKED, ARCHIVE = ROOT / "build/environment", ROOT / "build/environment.tar.gz"
# Short jobs do not benefit from a parallel collector. Other tests use only the C1 compiler, which does not
# use AES instructions: sending the archive would take minutes.
JAVA = "-XX:+UseSerialGC"
#: Flags of spark-submit that send the packed environment with the job.
PACKED = ("--archives", f"{ARCHIVE}#environment")
_START_TIMEOUT_S = 180


@dataclass(frozen=True)
class Host:
    """Host of a process: its address, and the command prefix to run on it (empty: this machine)."""

    address: str
    prefix: tuple[str, ...] = ()


LOOPBACK = Host("127.0.0.1")


class Cluster:
    """Cluster that starts in `with`; all processes are stopped at the end of the block."""

    def __init__(self, folder: Path, master: Host, workers: list[Host]):
        self.folder, self._master, self._workers = folder, master, workers
        self.secret = secrets.token_hex(32)
        self.url = f"spark://{master.address}:{free_port(master)}"
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        self._configure()
        try:
            port = self.url.rpartition(":")[2]
            self._daemon("master", self._master, "deploy.master.Master", "--port", port)
            for number, host in enumerate(self._workers):
                work = ("--work-dir", str(self.folder / f"work-{number}"))
                size = ("--cores", "1", "--memory", "2g")
                self._daemon(f"worker-{number}", host, "deploy.worker.Worker", *size, *work, self.url)
            for number in range(len(self._workers)):
                self._wait_for(f"worker-{number}", "Successfully registered with master")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        stop(self._processes)

    def _configure(self) -> None:
        """Write the Spark configuration; the file with the secret is readable only by its owner."""
        (self.folder / "conf").mkdir()
        defaults = self.folder / "conf" / "spark-defaults.conf"
        defaults.touch(mode=0o600)
        properties = {
            "spark.authenticate": "true",
            "spark.authenticate.secret": self.secret,
            "spark.network.crypto.enabled": "true",
            "spark.executor.memory": "1g",
            "spark.executor.extraJavaOptions": JAVA,
            "spark.driver.extraJavaOptions": JAVA,
            "spark.driver.host": self._master.address,
            "spark.driver.bindAddress": self._master.address,
        }
        defaults.write_text("".join(f"{key} {value}\n" for key, value in properties.items()))

    def _environment(self, host: Host) -> dict[str, str]:
        """Return a minimal environment, because executors inherit that of their worker."""
        kept = {name: os.environ[name] for name in ("HOME", "JAVA_HOME", "LANG") if name in os.environ}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_CONF_DIR": str(self.folder / "conf"),
            "SPARK_LOCAL_IP": host.address,
            "SPARK_LOCAL_DIRS": str(self.folder / "local"),
            "SPARK_DAEMON_JAVA_OPTS": JAVA,
            "SPARK_DAEMON_MEMORY": "256m",
        }

    def _daemon(self, name: str, host: Host, main_class: str, *arguments: str) -> None:
        command = [SPARK_HOME / "bin/spark-class", f"org.apache.spark.{main_class}", "--host", host.address]
        command += ["--webui-port", "0", *arguments]
        with (self.folder / f"{name}.log").open("w") as log:
            self._processes.append(self._start(command, host, cwd=self.folder, stdout=log, stderr=log))

    def _start(self, command: list, host: Host, **settings) -> subprocess.Popen:
        words = [*host.prefix, *map(str, command)]
        return subprocess.Popen(words, env=self._environment(host), start_new_session=True, **settings)

    def _wait_for(self, name: str, text: str) -> None:
        log = self.folder / f"{name}.log"
        deadline = time.monotonic() + _START_TIMEOUT_S
        while text not in log.read_text():
            assert time.monotonic() < deadline, f"{name} has not logged {text!r}:\n{log.read_text()}"
            time.sleep(0.2)

    def submit(self, script: Path, *flags, spark: tuple[str, ...] = PACKED) -> subprocess.Popen:
        """Start spark-submit on the host of the master, with stdout and stderr in one stream."""
        command = [SPARK_HOME / "bin/spark-submit", "--master", self.url, *spark, script, *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = self._start(command, self._master, cwd=ROOT, **pipes)
        self._processes.append(process)
        return process


def stop(processes: list[subprocess.Popen]) -> None:
    """Stop processes and their children: first terminate, so that a JVM can exit, then kill."""
    family = []
    for process in processes:
        with suppress(psutil.Error):
            top = psutil.Process(process.pid)
            family += [top, *top.children(recursive=True)]
    for method in ("terminate", "kill"):
        for member in family:
            with suppress(psutil.Error):
                getattr(member, method)()
        family = psutil.wait_procs(family, timeout=10)[1]
    for process in processes:
        process.wait()


def free_port(host: Host) -> int:
    """Return a free port of this machine; on another host all ports are free."""
    if host.prefix:
        return 7077
    with socket.socket() as probe:
        probe.bind((host.address, 0))
        return probe.getsockname()[1]


def error_line(output: str) -> str:
    """Return the error line of a job; fail if there is a stack trace."""
    assert not re.search(r"^Traceback", output, re.MULTILINE), output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")
