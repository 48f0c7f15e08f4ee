"""Detection of the Java installation that Spark will use."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from deepfm.errors import UserError

MIN_VERSION = 17
REMEDY = "apt-get install openjdk-17-jre-headless"
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Java:
    """A Java executable."""

    path: str
    version: int | None  # None: `java -version` failed


def find_java(environment: Mapping[str, str]) -> Java | None:
    """$JAVA_HOME/bin/java or, without JAVA_HOME, java on the PATH; None if it does not exist."""
    home = environment.get("JAVA_HOME")
    path = shutil.which(f"{home}/bin/java" if home else "java", path=environment.get("PATH", ""))
    if path is None:
        return None
    try:
        result = subprocess.run(
            [path, "-version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Java(path, None)
    # 17 of 'openjdk version "17.0.15" 2025-04-15', 8 of 'java version "1.8.0_412"'.
    version = re.search(r'version "(?:1\.)?(\d+)', result.stdout)
    return Java(path, int(version[1]) if version else None)


def java_problem(java: Java | None, environment: Mapping[str, str]) -> str | None:
    """Why Spark cannot use this Java, or None if it can."""
    home = environment.get("JAVA_HOME")
    if java is None:
        return f"JAVA_HOME is {home}, which has no bin/java" if home else "found none on the PATH"
    if java.version is None:
        return f"{java.path} -version failed"
    return None if java.version >= MIN_VERSION else f"{java.path} is Java {java.version}"


def require_java(environment: Mapping[str, str]) -> None:
    """Raise UserError if Spark could not start. Spark itself prints many lines or a stack trace."""
    if problem := java_problem(find_java(environment), environment):
        raise UserError(
            f"Spark needs Java {MIN_VERSION} or newer, but {problem}: {REMEDY}, or point JAVA_HOME at one; "
            "`python -m deepfm doctor` checks everything else"
        )
