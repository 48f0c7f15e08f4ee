"""Jobs as processes, each in a group of its own, so that a test can kill it with all it has started."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start_job(*command) -> subprocess.Popen:
    """Start a command in the project's folder, with this environment's programs; both streams are kept.

    Settings that the tests' own Spark has left in the environment stay behind.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    clean |= {"PATH": f"{Path(sys.executable).parent}:{clean['PATH']}", "PYSPARK_PYTHON": sys.executable}
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
