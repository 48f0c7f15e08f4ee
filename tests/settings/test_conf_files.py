"""Files of conf/ from any folder, also of an installed package."""

import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from deepfm.settings.conf_files import conf_folder, find_conf, load_profile

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_of_conf_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert conf_folder() == ROOT / "conf"
    assert find_conf("conf/profile/local.yaml") == str(ROOT / "conf/profile/local.yaml")
    assert find_conf("conf/model") == str(ROOT / "conf/model")


def test_a_file_of_the_current_folder_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/lr.yaml").touch()
    assert find_conf("conf/model/lr.yaml") == "conf/model/lr.yaml"


@pytest.mark.parametrize(
    "path", ["mine.yaml", "conf/model/none.yaml", "/conf/model/lr.yaml", "x/conf/model/lr.yaml"]
)
def test_other_paths_are_not_changed(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_conf(path) == path


# paths in profiles


@pytest.fixture
def profile(tmp_path):
    """profile(path, **changes) -> path of a copy of the local profile in the temporary folder."""

    def write(path, **changes):
        content = yaml.safe_load((ROOT / "conf/profile/local.yaml").read_text())
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(yaml.safe_dump({**content, **changes}))
        return str(tmp_path / path)

    return write


def test_paths_of_a_profile_start_from_its_folder(profile, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = profile("mine/profile.yaml", alerts={"prometheus_dir": "metrics"})
    loaded, folder = load_profile(path), tmp_path / "mine"
    assert loaded.work_dir == f"{folder}/work/runs"
    assert loaded.mlflow.tracking_uri == f"sqlite:///{folder}/work/mlflow.db"
    assert loaded.mlflow.artifact_location == f"{folder}/work/mlflow-artifacts"
    assert loaded.alerts.prometheus_dir == f"{folder}/metrics"
    assert f"relative paths in {path} start from {folder}" in caplog.text


def test_paths_of_a_profile_in_conf_start_from_the_project(profile, tmp_path):
    assert load_profile(profile("p/conf/profile/mine.yaml")).work_dir == f"{tmp_path}/p/work/runs"


def test_paths_of_the_profiles_of_the_package_start_from_the_current_folder():
    assert load_profile(str(ROOT / "conf/profile/local.yaml")).work_dir == "work/runs"


@pytest.mark.parametrize("work_dir", ["/a/runs", "hdfs:///runs", "s3://bucket/runs", "~/runs", "file:runs"])
def test_absolute_paths_and_urls_of_a_profile_are_not_changed(profile, work_dir, caplog):
    stores = {
        "tracking_uri": "http://server:5000",
        "registry_uri": "databricks-uc",
        "artifact_location": "/a",
    }
    loaded = load_profile(profile("profile.yaml", work_dir=work_dir, mlflow=stores))
    assert loaded.work_dir == work_dir
    assert loaded.mlflow.tracking_uri == "http://server:5000"
    assert loaded.mlflow.registry_uri == "databricks-uc"


# an installed package


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of an unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("deepfm", "conf", "setup.py", "pyproject.toml", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*pip, str(source)], check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_conf_and_the_command(installed):
    names = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    assert {path.relative_to(installed / "deepfm/conf") for path in installed.rglob("*.yaml")} == names
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "deepfm = deepfm.__main__:run" in entry_points.read_text()


def test_an_installed_package_finds_the_default_profile(installed, tmp_path):
    program = "from deepfm.settings.conf_files import find_conf; print(find_conf('conf/profile/local.yaml'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(installed / "deepfm/conf/profile/local.yaml")
