"""Environment variables that select another Spark or Python than that of the jobs are reported."""

import sys

import pytest

from deepfm.spark.environment import environment_error, variable_conflicts


def error_of(master="local[2]", **environment):
    return environment_error({"PATH": "/usr/bin:/bin"} | environment, sys.executable, "4.0.5", master)


@pytest.fixture
def spark_home(tmp_path):
    """Create the folder of a Spark version."""

    def make(version):
        home = tmp_path / f"spark-{version}"
        for name in ("bin/spark-submit", f"jars/spark-core_2.13-{version}.jar"):
            (home / name).parent.mkdir(parents=True)
            (home / name).touch()
        return str(home)

    return make


def test_an_environment_without_spark_variables_is_valid():
    assert error_of() is None


def test_a_spark_home_of_the_same_version_is_accepted(spark_home):
    assert error_of(SPARK_HOME=spark_home("4.0.1")) is None


def test_a_spark_home_of_another_version_is_reported_with_a_remedy(spark_home):
    home = spark_home("3.5.1")
    problem = f"SPARK_HOME is {home}, which is Spark 3.5, expected 4.0"
    assert error_of(SPARK_HOME=home) == error_of("yarn", SPARK_HOME=home) == f"{problem}: unset SPARK_HOME"
    conflicts = variable_conflicts({"SPARK_HOME": home}, sys.executable, "4.0.5", "local[2]")
    assert conflicts == [("SPARK_HOME", problem)]


def test_an_incomplete_spark_home_is_reported(tmp_path):
    assert error_of(SPARK_HOME=str(tmp_path)).endswith("which has no bin/spark-submit: unset SPARK_HOME")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "spark-submit").touch()
    assert "which has no jars/spark-core" in error_of(SPARK_HOME=str(tmp_path))


def test_the_python_of_the_jobs_is_accepted():
    assert error_of(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable) is None


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("printf '2.7\\n\\n'", "which is Python 2.7, expected"),
        ("echo 'usage: jupyter' >&2; exit 1", "which is not a working Python"),
        ("echo hello", "which is not a working Python"),
        (f"printf '{sys.version_info[0]}.{sys.version_info[1]}\\ndeepfm torch\\n'", "has no deepfm, torch"),
    ],
)
@pytest.mark.parametrize("name", ["PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"])
def test_another_python_is_reported_with_a_remedy(program, name, script, problem):
    path = str(program("python3", script))
    assert problem in error_of(PATH=f"{path}:/bin", **{name: "python3"})
    assert error_of(**{name: f"{path}/python3"}).endswith(f": unset {name}")


def test_a_missing_python_is_reported():
    assert "which does not exist" in error_of(PYSPARK_PYTHON="python9")


def test_the_python_of_other_hosts_is_not_checked():
    assert error_of("spark://host:7077", PYSPARK_PYTHON="./environment/bin/python") is None
