"""Checks of the host name, the user, open files and temporary folders."""

import os

import pytest

from deepfm.doctor import host
from deepfm.spark import local_machine


def test_this_host_and_user_are_green(tmp_path):
    findings = [host.check_host_name("local[2]"), host.check_user(os.getuid())]
    findings += [host.check_executable("temporary files", tmp_path)]
    assert [finding.level for finding in findings] == ["green"] * 3


@pytest.mark.parametrize(("master", "level"), [("local[2]", "yellow"), ("spark://host:7077", "red")])
def test_a_host_name_that_does_not_resolve_is_worse_on_a_cluster(monkeypatch, master, level):
    monkeypatch.setattr(local_machine.socket, "gethostname", lambda: "nowhere.invalid")
    finding = host.check_host_name(master)
    assert finding.level == level
    assert "nowhere.invalid does not resolve" in finding.found


def test_a_user_id_without_a_name_is_yellow():
    assert host.check_user(4_000_000).level == "yellow"


@pytest.mark.parametrize(("limit", "level"), [(-1, "green"), (1024, "green"), (256, "red")])
def test_few_open_files_are_red(limit, level):
    assert host.check_open_files(limit).level == level


def test_a_noexec_folder_is_yellow(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "is_noexec", lambda folder: True)
    assert host.check_executable("temporary files", tmp_path / "missing").level == "yellow"
