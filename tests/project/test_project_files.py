"""Files about the project agree with the package."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import deepfm

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_in_one_place():
    assert deepfm.__version__ == version("deepfm-spark")
    files = ("setup.py", "pyproject.toml", "CITATION.cff", "mkdocs.yml", "README.md")
    assert [name for name in files if deepfm.__version__ in text_of(name)] == []


def test_the_licence_is_the_same_everywhere():
    assert text_of("LICENSE").split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert 'license_expression="Apache-2.0"' in text_of("setup.py")
    assert yaml.safe_load(text_of("CITATION.cff"))["license"] == "Apache-2.0"


def test_the_package_is_built_by_the_pinned_setuptools():
    (requirement,) = tomllib.loads(text_of("pyproject.toml"))["build-system"]["requires"]
    (pinned,) = re.findall(r"^setuptools==(\d+)", text_of("requirements.lock"), re.MULTILINE)
    assert int(requirement.removeprefix("setuptools>=")) <= int(pinned)


def test_a_change_is_in_a_section_of_the_changelog():
    """Keep a Changelog 1.1.0: a version, its kinds of changes, one line each."""
    headings = re.findall(r"^#+ .*$", text_of("CHANGELOG.md"), re.MULTILINE)
    kinds = r"### (Added|Changed|Deprecated|Removed|Fixed|Security)"
    dated = r"## \[(Unreleased|\d+\.\d+\.\d+)\]( - \d{4}-\d\d-\d\d)?"
    assert headings[0] == "# Changelog" and headings[1] == "## [Unreleased]"
    assert [h for h in headings[1:] if not re.fullmatch(f"{kinds}|{dated}", h)] == []


def test_the_commands_of_the_contribution_guide_are_targets_of_make():
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", text_of("CONTRIBUTING.md") + text_of("SECURITY.md")))
    assert named and named <= targets


def test_hooks_use_the_linter_of_the_environment():
    repos = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = {hook["id"]: hook["entry"] for hook in repos[0]["hooks"]}
    assert all(hooks[name].startswith(".venv/bin/python -m ruff ") for name in ("ruff", "ruff-format"))


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_an_issue_template_is_valid_yaml(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
