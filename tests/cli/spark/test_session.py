"""What a session of Spark has, whatever the profile says, and what is told where Spark grants none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run_python(script, **environment):
    paths = {"PYTHONPATH": f"{ROOT}"}
    command = [sys.executable, "-c", script]
    environment = os.environ | paths | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_the_session_time_zone_is_utc_whatever_machine_and_profile_say():
    script = f"""
from deepfm.cli.job import load_profile
from deepfm.cli.spark.session import spark_session
profile = load_profile("{ROOT}/conf/profile/local.yaml")
settings = {{**profile.spark, "spark.sql.session.timeZone": "America/New_York"}}
with spark_session(profile.model_copy(update={{"spark": settings}}), "zone") as spark:
    print(spark.sql("SELECT CAST(timestamp_seconds(0) AS string) AS text").first().text)
"""
    done = run_python(script, TZ="America/New_York")
    assert done.stdout == "1970-01-01 00:00:00\n", done.stderr


@pytest.mark.parametrize("made", ["SparkContext", "SparkSession.Builder"])
def test_a_context_that_is_stopped_during_its_start_is_reported_as_a_refusing_master(made):
    """Spark does so from a thread of its own, and so at any moment of the start."""
    script = f"""
from deepfm.cli.job import load_profile
from deepfm.errors import UserError
from pyspark import SparkContext
from pyspark.sql import SparkSession
from deepfm.cli.spark.session import spark_session

get_or_create = {made}.getOrCreate

def refused(*arguments):
    created = get_or_create(*arguments)
    SparkContext._active_spark_context._jsc.sc().stop()
    return created

{made}.getOrCreate = refused
try:
    with spark_session(load_profile("{ROOT}/conf/profile/local.yaml"), "refused"):
        print("started")
except UserError as error:
    print(error)
"""
    done = run_python(script)
    told = "spark.master: expected one that takes this job, found local[2], which does not; is its "
    assert done.stdout.startswith(f"{told}spark.authenticate.secret this job's"), done.stderr
