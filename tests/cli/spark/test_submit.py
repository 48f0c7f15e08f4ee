"""What a job takes from spark-submit, and what from its profile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import logging, sys
from pyspark import SparkConf, SparkContext
from deepfm.cli.spark.submit import leave_master_to, warn_of_small_heap
from deepfm.errors import UserError

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
SparkContext._ensure_initialized()
for master in sys.argv[1:]:
    conf, profile = SparkConf(), {"spark.master": master, "spark.driver.memory": "3g"}
    try:
        leave_master_to(profile, conf)
        print("master", conf.get("spark.master"))
    except UserError as error:
        print("error", error)
warn_of_small_heap(profile, SparkConf())
"""


def submitted(folder, flags, *masters) -> list[str]:
    """What the script says, by spark-submit with these flags, of profiles that name these masters."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    not_ours = ("SPARK_", "PYSPARK_", "MASTER")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
    path = f"{Path(sys.executable).parent}:{clean['PATH']}"
    clean |= {"PYTHONPATH": f"{ROOT}", "PATH": path}
    command = ["spark-submit", *flags, str(script), *masters]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)
    told = [line for line in done.stdout.splitlines() if line.startswith(("master", "error", "WARNING Java"))]
    assert told, done.stderr
    return told


def test_the_profile_sets_the_master_if_spark_submit_was_given_none(tmp_path):
    told = submitted(tmp_path, [], "local[2]", "spark://host:7077", "yarn")
    assert told[:2] == ["master local[2]", "master spark://host:7077"]
    assert told[2].endswith("found no --master; give it --master yarn")
    assert told[3].startswith("WARNING Java has ")
    assert "give it --driver-memory 3g, or run python " in told[3]


@pytest.mark.parametrize("flags", [["--master", "local[*]"], ["--conf", "spark.master=local[*]"]])
def test_a_master_given_to_spark_submit_overrides_the_profile(tmp_path, flags):
    told = submitted(tmp_path, [*flags, "--driver-memory", "1g"], "local[2]", "yarn")
    assert told == ["master local[*]"] * 2  # and the memory that was asked for is no matter for a warning
