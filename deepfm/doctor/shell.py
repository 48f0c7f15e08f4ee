"""What a user's shell says of Spark and Python, which wins over the environment that the jobs run in."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from deepfm.doctor.finding import Finding, green, red

_ANSWERS_WITHIN_S = 30
#: A worker's Python needs them.
_NEEDED = ("deepfm", "pyarrow", "pandas", "torch")
_ASK = f"""
import importlib.util, sys
print(*sys.version_info[:2], sep=".")
print(*(name for name in {_NEEDED} if importlib.util.find_spec(name) is None))
"""


def shell_obstacle(
    environment: Mapping[str, str], python: str, spark_version: str, master: str
) -> str | None:
    """Why no job can run by these variables, and what to do; `python` and `spark_version` are the jobs' own.

    On a cluster the variables of Python name one on other hosts, which cannot be looked at.
    """
    found = [f"{why}: unset {name}" for name, why in _foreign(environment, python, spark_version, master)]
    return "; ".join(found) or None


def check_shell(environment: Mapping[str, str], python: str, spark_version: str, master: str) -> Finding:
    """The same, as a line of the doctor's."""
    what, found = "Spark's variables", list(_foreign(environment, python, spark_version, master))
    if found:
        names = " ".join(name for name, _ in found)
        return red(what, "; ".join(why for _, why in found), f"unset {names}")
    return green(what, "none leads to another Spark or Python")


def _foreign(environment, python, spark_version, master) -> Iterator[tuple[str, str]]:
    """(variable, why it cannot stay)."""
    if (home := environment.get("SPARK_HOME")) and (why := _other_spark(Path(home), spark_version)):
        yield "SPARK_HOME", f"SPARK_HOME is {home}, {why}"
    if not master.startswith("local"):
        return
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        if (other := environment.get(name)) and (why := _other_python(other, python, environment)):
            yield name, f"{name} is {other}, {why}"


def _other_spark(home: Path, spark_version: str) -> str | None:
    if not (home / "bin" / "spark-submit").exists():
        return "which has no bin/spark-submit"
    jars = [re.search(r"_[\d.]+-(\d+\.\d+)", jar.name) for jar in home.glob("jars/spark-core_*.jar")]
    versions = [found[1] for found in jars if found]
    wanted = ".".join(spark_version.split(".")[:2])
    if not versions:
        return "which has no jars/spark-core_*.jar"
    return None if wanted in ("", *versions) else f"which is Spark {versions[0]}, wanted {wanted}"


def _other_python(other: str, python: str, environment: Mapping[str, str]) -> str | None:
    path = shutil.which(other, path=environment.get("PATH", ""))
    if path is None:
        return "which is not there"
    # Not by their files: an environment's Python is a link to the machine's.
    if Path(path).parent.resolve() == Path(python).parent.resolve():
        return None
    try:
        wanted, _ = _answer(python, environment)
        version, missing = _answer(path, environment)
    except (OSError, subprocess.SubprocessError, ValueError):
        return "which does not answer as a Python does"
    if version != wanted:
        return f"which is Python {version}, wanted {wanted}"
    return f"which has no {', '.join(missing)}" if missing else None


def _answer(python: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """(its version, what it lacks)."""
    done = subprocess.run(
        [python, "-c", _ASK],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_ANSWERS_WITHIN_S,
        check=True,
    )
    version, missing = done.stdout.splitlines()[-2:]
    if not re.fullmatch(r"\d+\.\d+", version):
        raise ValueError(version)
    return version, missing.split()
