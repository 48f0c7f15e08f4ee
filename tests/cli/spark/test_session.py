"""Spark session: its time zone, and the error if the master refuses it."""

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


def test_the_log_settings_are_installed_with_the_package():
    """A wheel has files of the package only."""
    from deepfm.cli.spark import logging

    assert logging._LOG_SETTINGS.is_file()
    package = logging._LOG_SETTINGS.parent.relative_to(ROOT).as_posix().replace("/", ".")
    assert f'"{package}": ["{logging._LOG_SETTINGS.name}"]' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("class_name", ["SparkContext", "SparkSession.Builder"])
def test_a_context_that_is_stopped_during_its_start_is_reported_as_a_refusing_master(class_name):
    """Spark stops it from another thread, so at any moment of the start."""
    script = f"""
from deepfm.cli.job import load_profile
from deepfm.errors import UserError
from pyspark import SparkContext
from pyspark.sql import SparkSession
from deepfm.cli.spark.session import spark_session

get_or_create = {class_name}.getOrCreate

def refused(*arguments):
    created = get_or_create(*arguments)
    SparkContext._active_spark_context._jsc.sc().stop()
    return created

{class_name}.getOrCreate = refused
try:
    with spark_session(load_profile("{ROOT}/conf/profile/local.yaml"), "refused"):
        print("started")
except UserError as error:
    print(error)
"""
    done = run_python(script)
    message = "spark.master: local[2] refused this job; check that it has the job's spark.authenticate.secret"
    assert done.stdout.startswith(message), done.stderr
