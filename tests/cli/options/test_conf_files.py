"""Files of conf/ from any folder, also of an installed package."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deepfm.cli.options.conf_files import conf_folder, find_conf

ROOT = Path(__file__).resolve().parents[3]


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
    program = (
        "from deepfm.cli.options.conf_files import find_conf; print(find_conf('conf/profile/local.yaml'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(installed / "deepfm/conf/profile/local.yaml")
