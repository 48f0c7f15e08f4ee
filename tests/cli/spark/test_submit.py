"""Precedence of the settings of spark-submit and of the profile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import logging, sys
from pyspark import SparkConf
from deepfm.cli.spark.submit import set_master_from_profile, warn_if_heap_is_small
from deepfm.errors import UserError
from deepfm.spark.internals import connect_jvm

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
connect_jvm()
for master in sys.argv[1:]:
    conf, profile = SparkConf(), {"spark.master": master, "spark.driver.memory": "3g"}
    try:
        set_master_from_profile(profile, conf)
        print("master", conf.get("spark.master"))
    except UserError as error:
        print("error", error)
warn_if_heap_is_small(profile, SparkConf())
"""


def run_submitted(folder, flags, *masters) -> list[str]:
    """Return the output of the script, run by spark-submit with `flags`, for profiles with these masters."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    prefixes = ("SPARK_", "PYSPARK_", "MASTER")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    path = f"{Path(sys.executable).parent}:{clean['PATH']}"
    clean |= {"PYTHONPATH": f"{ROOT}", "PATH": path}
    command = ["spark-submit", *flags, str(script), *masters]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)
    lines = [
        line for line in done.stdout.splitlines() if line.startswith(("master", "error", "WARNING Java"))
    ]
    assert lines, done.stderr
    return lines


def test_the_profile_sets_the_master_if_spark_submit_was_given_none(tmp_path):
    lines = run_submitted(tmp_path, [], "local[2]", "spark://host:7077", "yarn")
    assert lines[:2] == ["master local[2]", "master spark://host:7077"]
    assert lines[2].endswith("found no --master; give it --master yarn")
    assert lines[3].startswith("WARNING Java has ")
    assert "give it --driver-memory 3g, or run python " in lines[3]


@pytest.mark.parametrize("flags", [["--master", "local[*]"], ["--conf", "spark.master=local[*]"]])
def test_a_master_given_to_spark_submit_overrides_the_profile(tmp_path, flags):
    lines = run_submitted(tmp_path, [*flags, "--driver-memory", "1g"], "local[2]", "yarn")
    assert lines == ["master local[*]"] * 2  # and no warning about memory
