"""Invalid Spark properties are reported before a session starts."""

from pathlib import Path

import pytest

from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings
from deepfm.spark.environment import session_error
from deepfm.spark.properties import memory_bytes, property_errors, scratch_folders

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "conf/profile").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_properties_of_every_profile_are_valid(path):
    assert property_errors(load_settings(path, Profile).spark) == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (
            "spark.master",
            ["local", "local[2]", "local[*]", "local[*, 4]", "local-cluster[2,1,1024]", "yarn"],
        ),
        (
            "spark.master",
            ["spark://host:7077", "spark://a:1,b:2", "spark://[::1]:7077", "k8s://https://host"],
        ),
        ("spark.driver.memory", ["512m", "4g", "4G", 2**30]),
        ("spark.executor.memory", ["800m", "4g", "4GB", " 4g"]),
        ("spark.task.cpus", [1]),
        ("spark.executor.instances", [0, "8"]),
        ("spark.task.resource.gpu.amount", [1, 0.5, "0.25"]),
    ],
)
def test_valid_values_are_accepted(key, values):
    assert [value for value in values if property_errors({key: value})] == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (
            "spark.master",
            ["locl[2]", "local[x]", "local[0]", "local[ 2 ]", "local[2", "Local[2]", "mesos"],
        ),
        ("spark.master", ["spark:/host", "spark://host", "spark://host:7077/", "spark://host:x", "k8s://"]),
        ("spark.driver.memory", ["4 GB", "4gb", "1.5g", "much", 4096, "400m"]),
        ("spark.executor.memory", ["4 GB", "1.5g", "much", 4096, "400m"]),
        ("spark.task.cpus", ["two", 0, 1.5, True]),
        ("spark.executor.cores", ["x"]),
        ("spark.executor.instances", ["many"]),
        ("spark.cores.max", ["all"]),
        ("spark.executor.resource.gpu.amount", ["one"]),
    ],
)
def test_invalid_values_are_reported_in_one_line(key, values):
    for value in values:
        error = session_error({key: value})
        assert error.startswith(f"{key}: expected ") and f"found {value}; fix it" in error


@pytest.mark.parametrize(
    "properties",
    [
        {"spark.master": "local[2]", "spark.task.cpus": 4},
        {"spark.master": "local", "spark.task.cpus": 4},
        {"spark.master": "yarn", "spark.executor.cores": 2, "spark.task.cpus": 4},
    ],
)
def test_a_task_has_no_more_cores_than_an_executor(properties):
    (error,) = property_errors(properties)
    assert error.startswith("spark.task.cpus: expected at most the cores of an executor")


def test_memory_sizes_are_parsed_as_in_java():
    assert [memory_bytes(size) for size in ("1g", "2M", "3kb", 5)] == [2**30, 2**21, 3 * 2**10, 5]
    assert memory_bytes("4 GB") is memory_bytes(None) is None


def test_scratch_folders_follow_the_precedence_of_spark():
    several = {"spark.local.dir": "/a, /b"}
    folders = [
        scratch_folders({}, {}),
        scratch_folders({}, {"TMPDIR": "/python"}),
        scratch_folders(several, {}),
        scratch_folders(several, {"SPARK_LOCAL_DIRS": "/c,/tmp"}),
    ]
    assert [[str(folder) for folder in case] for case in folders] == [
        ["/tmp"],
        ["/tmp", "/python"],
        ["/a", "/b", "/tmp"],
        ["/c", "/tmp"],
    ]
