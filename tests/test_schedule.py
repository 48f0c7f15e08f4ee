"""Schedules: flags, days, memory and PATH; Airflow loads and renders the DAGs if it is available."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deepfm.settings.data import DataSettings
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings

SCHEDULE = Path(__file__).resolve().parents[1] / "conf" / "schedule"
JOB = r"jobs/(\w+)\.py"


def options_of(job):
    """Return all flags of a job and the required ones."""
    parameters = getattr(importlib.import_module(f"deepfm.cli.{job}"), job).params
    flags = {name for parameter in parameters for name in parameter.opts}
    return flags, {parameter.opts[0] for parameter in parameters if parameter.required}


def crontab_commands():
    """Yield (job, flags) of every command in the crontab."""
    text = (SCHEDULE / "crontab").read_text()
    for command in re.split(r"&&|\|\|", text):
        if match := re.search(JOB, command):
            yield match[1], set(re.findall(r"(--[a-z-]+)", command[match.end() :]))


def airflow_commands():
    """Yield (job, flags) of every task."""
    tree = ast.parse((SCHEDULE / "airflow_dag.py").read_text())
    (common_flags,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "COMMON_FLAGS"
    ]
    common = [word.value for word in common_flags.elts if isinstance(word, ast.Constant)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "submit":
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            yield words[0], {word for word in [*words, *common] if word.startswith("--")}


@pytest.mark.parametrize("commands", [crontab_commands, airflow_commands])
def test_the_schedules_use_valid_flags_and_all_required_ones(commands):
    jobs = list(commands())
    assert {job for job, _ in jobs} == {"score", "build_features", "train", "promote"}
    for job, flags in jobs:
        known, required = options_of(job)
        assert flags <= known, job
        assert required <= flags, job


def readme_log(folder):
    """Load the conf/data/mine.yaml that the README shows."""
    text = (SCHEDULE.parent.parent / "README.md").read_text()
    (yaml,) = re.findall(r"```yaml\n# conf/data/mine.yaml\n(.*?)```", text, re.DOTALL)
    (folder / "mine.yaml").write_text(yaml)
    return load_settings(str(folder / "mine.yaml"), DataSettings)


@pytest.mark.parametrize("file", ["crontab", "airflow_dag.py"])
def test_the_schedules_use_the_log_of_the_readme_with_a_key_that_is_no_field(tmp_path, file):
    """The key is a further column, which needs a log with a header; that of criteo.yaml has none."""
    text, settings = (SCHEDULE / file).read_text(), readme_log(tmp_path)
    assert set(re.findall(r"conf/data/\w+\.yaml", text)) == {"conf/data/mine.yaml"}
    assert settings.header
    keys = re.findall(r'--key (\w+)|"key": "(\w+)"', text)
    (key,) = {name for names in keys for name in names if name}
    assert key not in settings.field_set.columns


def test_cron_scores_the_last_three_days_in_utc():
    text = (SCHEDULE / "crontab").read_text()
    assert set(re.findall(r"date -\w", text)) == {"date -u"}
    assert "for DAYS_AGO in 3 2 1; do" in text


def test_the_schedules_pass_the_driver_memory_of_the_profile():
    """spark-submit starts Java before a job reads its profile."""
    profile = load_settings(str(SCHEDULE.parent / "profile" / "local.yaml"), Profile)
    memory = profile.spark["spark.driver.memory"]
    submits = re.findall(r"spark-submit (.*?)jobs/", (SCHEDULE / "crontab").read_text())
    assert submits == [f"--driver-memory {memory} "] * 4
    assert f'driver_memory="{memory}"' in (SCHEDULE / "airflow_dag.py").read_text()


def test_cron_finds_spark_submit_of_the_environment():
    """Cron sets only the PATH of the crontab for its commands."""
    (path,) = re.findall(r"^PATH=(.*)$", (SCHEDULE / "crontab").read_text(), re.MULTILINE)
    (home,) = set(re.findall(r"cd (\S+) &&", (SCHEDULE / "crontab").read_text()))
    path = path.replace(f"{home}/.venv/bin", str(Path(sys.executable).parent))
    path = f"{path}:{Path(shutil.which('java')).parent}"  # of this machine
    command = [shutil.which("spark-submit", path=path), "--version"]
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "version" in done.stderr) == (0, True), done.stderr


@pytest.mark.skipif("AIRFLOW" not in os.environ, reason="AIRFLOW=path/to/airflow is not set")
def test_airflow_loads_and_renders_the_dags(tmp_path):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "ctr.py").write_text((SCHEDULE / "airflow_dag.py").read_text())
    keys = ("home", "log", "scores", "datasets", "data", "model", "name", "workers", "key", "profile")
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_VAR_CTR": json.dumps({key: f"the {key}" for key in keys}),
    }

    def airflow(*command):
        command = [os.environ["AIRFLOW"], *command]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    airflow("db", "migrate")
    assert "No data found" in airflow("dags", "list-import-errors")
    daily = airflow("tasks", "render", "ctr_score_daily", "score", "2026-01-08T03:00:00+00:00")
    assert "'--date', '2026-01-07', '--model-uri', 'models:/the name@champion'" in daily
    weekly = airflow("tasks", "render", "ctr_train_weekly", "build_features", "2026-01-05T06:00:00+00:00")
    days = (
        "'--train-days', '2025-12-06:2026-01-02', '--valid-days', '2026-01-03', '--test-days', '2026-01-04'"
    )
    assert days in weekly
