"""Jobs as processes in separate process groups, so that a test can kill them with their children."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start_job(*command) -> subprocess.Popen:
    """Start a command in the project folder, with the programs of this environment and captured output.

    Environment variables set by the Spark session of the tests are removed.
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
