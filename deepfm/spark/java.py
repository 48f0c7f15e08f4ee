"""The Java that Spark will start, found as Spark finds it."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from deepfm.errors import UserError

OLDEST = 17
REMEDY = "apt-get install openjdk-17-jre-headless"
_ANSWERS_WITHIN_S = 30


@dataclass(frozen=True)
class Java:
    """A file that Spark would start."""

    path: str
    version: int | None  # None: it does not answer as a Java does


def find_java(environment: Mapping[str, str]) -> Java | None:
    """$JAVA_HOME/bin/java, or without JAVA_HOME the java on the PATH; None where that is missing."""
    home = environment.get("JAVA_HOME")
    path = shutil.which(f"{home}/bin/java" if home else "java", path=environment.get("PATH", ""))
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "-version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_ANSWERS_WITHIN_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Java(path, None)
    # 17 of 'openjdk version "17.0.15" 2025-04-15', 8 of 'java version "1.8.0_412"'.
    version = re.search(r'version "(?:1\.)?(\d+)', done.stdout)
    return Java(path, int(version[1]) if version else None)


def java_obstacle(java: Java | None, environment: Mapping[str, str]) -> str | None:
    """Why Spark cannot run on it: what was found and where; None where it can."""
    home = environment.get("JAVA_HOME")
    if java is None:
        return f"JAVA_HOME is {home}, which has no bin/java" if home else "found none on the PATH"
    if java.version is None:
        return f"{java.path} does not answer -version as a Java does"
    return None if java.version >= OLDEST else f"{java.path} is Java {java.version}"


def require_java(environment: Mapping[str, str]) -> None:
    """UserError where Spark would not start: it says so in many lines, and for a Java too old in a trace."""
    if obstacle := java_obstacle(find_java(environment), environment):
        raise UserError(
            f"Spark needs Java {OLDEST} or newer, but {obstacle}: {REMEDY}, or point JAVA_HOME at one; "
            "`python -m deepfm doctor` checks everything else"
        )
