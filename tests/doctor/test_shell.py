"""Variables of a user's shell that lead to another Spark or Python than the jobs' own."""

import sys

import pytest

from deepfm.doctor.shell import check_shell, shell_obstacle


def obstacle(master="local[2]", **environment):
    return shell_obstacle({"PATH": "/usr/bin:/bin"} | environment, sys.executable, "4.0.5", master)


@pytest.fixture
def spark_home(tmp_path):
    """spark_home(version) -> the folder of such a Spark."""

    def make(version):
        home = tmp_path / f"spark-{version}"
        for name in ("bin/spark-submit", f"jars/spark-core_2.13-{version}.jar"):
            (home / name).parent.mkdir(parents=True)
            (home / name).touch()
        return str(home)

    return make


def test_a_shell_that_says_nothing_of_spark_is_well():
    assert obstacle() is None
    assert check_shell({}, sys.executable, "4.0.5", "local[2]").level == "green"


def test_a_spark_home_of_the_same_version_may_stay(spark_home):
    assert obstacle(SPARK_HOME=spark_home("4.0.1")) is None


def test_a_spark_home_of_another_version_is_told_with_the_line_to_run(spark_home):
    home = spark_home("3.5.1")
    told = f"SPARK_HOME is {home}, which is Spark 3.5, wanted 4.0"
    assert obstacle(SPARK_HOME=home) == obstacle("yarn", SPARK_HOME=home) == f"{told}: unset SPARK_HOME"
    finding = check_shell({"SPARK_HOME": home}, sys.executable, "4.0.5", "local[2]")
    assert (finding.level, finding.found, finding.remedy) == ("red", told, "unset SPARK_HOME")


def test_a_spark_home_that_is_gone_is_told(tmp_path):
    assert obstacle(SPARK_HOME=str(tmp_path)).endswith("which has no bin/spark-submit: unset SPARK_HOME")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "spark-submit").touch()
    assert "which has no jars/spark-core" in obstacle(SPARK_HOME=str(tmp_path))


def test_the_jobs_own_python_may_be_named():
    assert obstacle(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable) is None


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("printf '2.7\\n\\n'", "which is Python 2.7, wanted"),
        ("echo 'usage: jupyter' >&2; exit 1", "which does not answer as a Python does"),
        ("echo hello", "which does not answer as a Python does"),
        (f"printf '{sys.version_info[0]}.{sys.version_info[1]}\\ndeepfm torch\\n'", "has no deepfm, torch"),
    ],
)
@pytest.mark.parametrize("name", ["PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"])
def test_another_python_is_told_with_the_line_to_run(program, name, script, told):
    path = str(program("python3", script))
    assert told in obstacle(PATH=f"{path}:/bin", **{name: "python3"})
    assert obstacle(**{name: f"{path}/python3"}).endswith(f": unset {name}")


def test_a_python_that_is_not_there_is_told():
    assert "which is not there" in obstacle(PYSPARK_PYTHON="python9")


def test_the_python_of_other_hosts_is_left_alone():
    assert obstacle("spark://host:7077", PYSPARK_PYTHON="./environment/bin/python") is None
