"""python -m deepfm doctor as a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def doctor(*flags, **environment):
    return subprocess.run(
        [sys.executable, "-m", "deepfm", *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_failed_check_is_red_with_a_remedy_and_status_2(program, tmp_path):
    """Java is too old and the profile is missing; all other checks run as well."""
    folder = program("java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = doctor("doctor", "--profile", tmp_path / "none.yaml", PATH=path, JAVA_HOME="")
    assert done.returncode == 2, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    levels = {finding["what"]: finding["level"] for finding in summary["findings"]}
    assert (levels["Java"], levels["profile"]) == ("red", "red")
    assert levels["torch"] == levels["pyspark"] == levels["Horovod's build"] == "green"
    assert summary["red"] == list(levels.values()).count("red")
    assert "Java: apt-get install openjdk-17-jre-headless\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_invalid_numbers_and_a_foreign_spark_are_red(tmp_path):
    """None of these errors may prevent the other checks."""
    text = (ROOT / "conf/profile/local.yaml").read_text()
    wrong = "spark:\n  spark.task.cpus: two\n  spark.task.resource.gpu.amount: one\n"
    text = text.replace("spark:\n", wrong, 1).replace("4g", "4 GB").replace("work/runs", "hdfs:/runs")
    (tmp_path / "profile.yaml").write_text(text)
    done = doctor("doctor", "--profile", tmp_path / "profile.yaml", SPARK_HOME=str(tmp_path))
    assert done.returncode == 2, done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout.splitlines()[-1])["findings"]}
    properties = findings["Spark properties"]
    assert (
        properties["level"]
        == findings["Spark's variables"]["level"]
        == findings["work_dir"]["level"]
        == "red"
    )
    for key in ("spark.task.cpus", "spark.task.resource.gpu.amount", "spark.driver.memory"):
        assert f"{key}: expected" in properties["found"]
    assert "Spark's variables: unset SPARK_HOME\n" in done.stderr
    assert "MLflow" in findings


def test_the_doctor_runs_where_the_packages_of_the_jobs_are_broken(tmp_path):
    for package in ("numpy", "pandas", "pyarrow"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('libarrow.so: cannot open shared object')")
    done = doctor("doctor", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 2, done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout.splitlines()[-1])["findings"]}
    assert findings["MLflow"]["found"] == "cannot be imported: libarrow.so: cannot open shared object"


@pytest.mark.parametrize("command", ["-m deepfm doctor", "jobs/train.py"])
def test_a_package_whose_libraries_do_not_load_is_reported_in_one_line(command, tmp_path):
    (tmp_path / "click.py").write_text("raise ImportError('libx.so: cannot open shared object')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "cannot import libx.so: cannot open shared object: run" in line


def test_an_invalid_flag_is_reported_in_one_line():
    done = doctor("doctor", "--profil", "x")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
