"""The commit of the code that a job runs."""

import os
import subprocess

import pytest

import deepfm
from deepfm.tracking import code_version as module
from deepfm.tracking.code_version import code_version


@pytest.fixture
def git(tmp_path):
    def run(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run


@pytest.fixture
def package(git, tmp_path, monkeypatch):
    """A package in a checkout with a commit and a tag."""
    git("init", "--quiet")
    package = tmp_path / "deepfm"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    git("tag", "-a", "v1", "-m", "first")
    monkeypatch.setattr(deepfm, "__file__", str(package / "__init__.py"))
    module._code_version.cache_clear()
    yield package
    module._code_version.cache_clear()


def test_it_is_the_commit_even_if_it_has_a_tag(git, package):
    assert code_version() == git("rev-parse", "HEAD")


def test_it_says_that_files_differ(git, package):
    (package / "__init__.py").write_text("changed = True\n")
    assert code_version() == git("rev-parse", "HEAD") + "-dirty"


def test_a_package_installed_below_another_checkout_has_none(package, tmp_path, monkeypatch):
    installed = tmp_path / ".venv" / "deepfm"
    installed.mkdir(parents=True)
    monkeypatch.setattr(deepfm, "__file__", str(installed / "__init__.py"))
    assert code_version() == "unknown"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_a_checkout_of_another_user_is_read(git, package, tmp_path, monkeypatch):
    commit = git("rev-parse", "HEAD")
    monkeypatch.setenv("HOME", str(tmp_path))  # without the user's safe.directory
    for folder, _, files in os.walk(tmp_path):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            os.chown(path, 4711, 4711)
    assert code_version() == commit


@pytest.mark.parametrize("references", ["loose", "packed", "detached", "linked"])
def test_without_git_it_is_read_from_its_files(git, package, tmp_path, monkeypatch, references, caplog):
    commit = git("rev-parse", "HEAD")
    if references == "packed":
        git("pack-refs", "--all")
    elif references == "detached":
        git("checkout", "--quiet", "--detach")
    elif references == "linked":
        git("worktree", "add", "--quiet", str(tmp_path / "linked"), "-b", "other")
        monkeypatch.setattr(deepfm, "__file__", str(tmp_path / "linked" / "deepfm" / "__init__.py"))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert code_version() == f"{commit}-unchecked"
    assert "whether files differ from it is unknown: " in caplog.text
