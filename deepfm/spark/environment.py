"""Checks before a Spark session starts: environment variables, master and GPUs."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from deepfm.spark.properties import property_errors

_PYTHON_TIMEOUT_S = 30
_MASTER_TIMEOUT_S = 5
#: Packages that a worker's Python needs.
_REQUIRED = ("deepfm", "pyarrow", "pandas", "torch")
_PROBE = f"""
import importlib.util, sys
print(*sys.version_info[:2], sep=".")
print(*(name for name in {_REQUIRED} if importlib.util.find_spec(name) is None))
"""
_WITHOUT_GPUS = "remove the spark.*.resource.gpu.* lines from the profile, or run on a machine with GPUs"


def variable_conflicts(
    environment: Mapping[str, str], python: str, spark_version: str, master: str
) -> list[tuple[str, str]]:
    """Return (variable, problem) of the variables that select another Spark or Python than that of the jobs.

    `python`, `spark_version`: those of the jobs. On a cluster the variables of Python name an interpreter on
    other hosts, which cannot be checked.
    """
    return list(_find_conflicts(environment, python, spark_version, master))


def environment_error(
    environment: Mapping[str, str], python: str, spark_version: str, master: str
) -> str | None:
    """Return why no job can run with these environment variables, and the remedy; None if it can."""
    conflicts = variable_conflicts(environment, python, spark_version, master)
    return "; ".join(f"{problem}: unset {name}" for name, problem in conflicts) or None


def session_error(spark: Mapping[str, object]) -> str | None:
    """Return why no session can start with these properties, and the remedy; None if it can.

    Spark itself reports these errors late. Whether the master answers is checked by `master_error`.
    """
    if errors := property_errors(spark):
        return f"{'; '.join(errors)}; fix it in the profile, or in the flag of spark-submit"
    master = str(spark.get("spark.master", ""))
    amounts = [key for key in spark if "resource.gpu.amount" in key]
    if master.startswith("local") and amounts and not num_driver_gpus():
        return f"{amounts[0]}: the profile requests GPUs, this machine has none; {_WITHOUT_GPUS}"
    return None


def standalone_address(master: str) -> tuple[str, int] | None:
    """Return host and port of a standalone master; None for other masters."""
    match = re.fullmatch(r"spark://([^:/,]+|\[[^\]]+\]):(\d+)", master)
    return (match[1].strip("[]"), int(match[2])) if match else None


def master_error(master: str) -> tuple[str, str] | None:
    """Return (problem, remedy) if a standalone master does not answer; other masters are not checked."""
    address = standalone_address(master)
    if address is None:
        return None
    try:
        with socket.create_connection(address, timeout=_MASTER_TIMEOUT_S):
            return None
    except OSError as error:
        remedy = f"nc -vz {address[0]} {address[1]}; start it, or change spark.master in the profile"
        return f"{master} does not answer: {error}", remedy


def num_driver_gpus() -> int:
    """Return the number of GPUs of NVIDIA's kernel driver, whether or not PyTorch can use them."""
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.exists() else 0


def _find_conflicts(
    environment: Mapping[str, str], python: str, spark_version: str, master: str
) -> Iterator[tuple[str, str]]:
    if (home := environment.get("SPARK_HOME")) and (problem := _spark_problem(Path(home), spark_version)):
        yield "SPARK_HOME", f"SPARK_HOME is {home}, {problem}"
    if not master.startswith("local"):
        return
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        if (other := environment.get(name)) and (problem := _python_problem(other, python, environment)):
            yield name, f"{name} is {other}, {problem}"


def _spark_problem(home: Path, spark_version: str) -> str | None:
    if not (home / "bin" / "spark-submit").exists():
        return "which has no bin/spark-submit"
    matches = [re.search(r"_[\d.]+-(\d+\.\d+)", jar.name) for jar in home.glob("jars/spark-core_*.jar")]
    versions = [match[1] for match in matches if match]
    expected = ".".join(spark_version.split(".")[:2])
    if not versions:
        return "which has no jars/spark-core_*.jar"
    return None if expected in ("", *versions) else f"which is Spark {versions[0]}, expected {expected}"


def _python_problem(other: str, python: str, environment: Mapping[str, str]) -> str | None:
    path = shutil.which(other, path=environment.get("PATH", ""))
    if path is None:
        return "which does not exist"
    # Compare folders, not files: the Python of a virtual environment is a link to the system's.
    if Path(path).parent.resolve() == Path(python).parent.resolve():
        return None
    try:
        expected, _ = _probe_python(python, environment)
        version, missing = _probe_python(path, environment)
    except (OSError, subprocess.SubprocessError, ValueError):
        return "which is not a working Python"
    if version != expected:
        return f"which is Python {version}, expected {expected}"
    return f"which has no {', '.join(missing)}" if missing else None


def _probe_python(python: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the version of a Python and the required packages that it lacks."""
    done = subprocess.run(
        [python, "-c", _PROBE],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PYTHON_TIMEOUT_S,
        check=True,
    )
    version, missing = done.stdout.splitlines()[-2:]
    if not re.fullmatch(r"\d+\.\d+", version):
        raise ValueError(version)
    return version, missing.split()
