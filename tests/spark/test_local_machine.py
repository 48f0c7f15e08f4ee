"""Settings with which Spark starts on a machine that lacks a host name, a user name or an executable /tmp."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from deepfm.errors import UserError
from deepfm.spark import local_machine
from deepfm.spark.local_machine import (
    host_settings,
    is_noexec,
    java_temporary_folder,
    native_library_options,
    user_settings,
)


@pytest.fixture
def unresolvable(monkeypatch):
    monkeypatch.setattr(local_machine.socket, "gethostname", lambda: "ip-10-0-0-7.nowhere.invalid")


def test_a_host_name_that_resolves_needs_no_settings():
    assert host_settings({"spark.master": "local[2]"}, {}) == {}


def test_a_local_master_uses_loopback_if_the_host_name_does_not_resolve(unresolvable):
    settings = host_settings({"spark.master": "local[2]"}, {})
    assert settings == {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"}


def test_a_cluster_needs_an_address_of_the_driver(unresolvable):
    with pytest.raises(
        UserError, match=r"ip-10-0-0-7\.nowhere\.invalid does not resolve.*spark\.driver\.host"
    ):
        host_settings({"spark.master": "spark://master:7077"}, {})
    properties = {"spark.master": "spark://master:7077", "spark.driver.host": "10.0.0.7"}
    assert host_settings(properties, {}) == {"SPARK_LOCAL_HOSTNAME": "10.0.0.7"}


def test_a_user_with_a_name_needs_no_settings():
    assert user_settings({}) == {}


@pytest.mark.parametrize("has_home", [True, False])
def test_a_user_without_a_name_gets_one_and_a_home_that_can_be_written(monkeypatch, tmp_path, has_home):
    monkeypatch.setattr(local_machine.os, "getuid", lambda: 4711)
    settings = user_settings({"HOME": str(tmp_path) if has_home else "/nonexistent"})
    assert settings["USER"] == settings["HADOOP_USER_NAME"] == "user4711"
    assert ("HOME" in settings) != has_home
    assert has_home or os.access(settings["HOME"], os.W_OK)


@pytest.mark.parametrize(
    ("properties", "environment", "folder"),
    [
        ({}, {}, "/tmp"),
        ({}, {"TMPDIR": "/fast"}, "/tmp"),  # Java ignores it
        ({"spark.driver.extraJavaOptions": "-Xss4m -Djava.io.tmpdir=/a"}, {}, "/a"),
        ({}, {"JAVA_TOOL_OPTIONS": "-Djava.io.tmpdir=/b"}, "/b"),
        (
            {"spark.driver.extraJavaOptions": "-Djava.io.tmpdir=/a"},
            {"JAVA_TOOL_OPTIONS": "-Djava.io.tmpdir=/b"},
            "/a",
        ),
    ],
)
def test_the_temporary_folder_of_java_is_that_of_its_options(properties, environment, folder):
    assert java_temporary_folder(properties, environment) == Path(folder)


def test_native_libraries_stay_where_they_can_be_executed(tmp_path):
    environment = {"JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={tmp_path}"}
    assert not is_noexec(tmp_path) and native_library_options({}, environment, []) == ""


def test_native_libraries_move_out_of_a_noexec_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(local_machine, "is_noexec", lambda folder: folder == Path("/tmp"))
    options = native_library_options({}, {}, [tmp_path / "missing", tmp_path])
    assert f"-Dorg.xerial.snappy.tempdir={tmp_path}" in options and f"-DZstdTempFolder={tmp_path}" in options
    with pytest.raises(UserError, match="/tmp: Java's temporary folder is mounted noexec"):
        native_library_options({}, {}, [tmp_path / "missing"])


@pytest.mark.parametrize(("limits", "expected"), [((512, 2048), "2048"), ((64, 512), "found 512; raise it")])
def test_the_limit_of_open_files_is_raised_or_reported(limits, expected):
    script = (
        "import resource; from deepfm.spark.local_machine import raise_open_files_limit as go; go(); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=limit)
    assert expected in done.stdout + done.stderr
