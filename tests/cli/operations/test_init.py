"""deepfm init."""

import re
import shlex

import pytest
from click.testing import CliRunner

from deepfm.cli.operations.init import init
from deepfm.errors import UserError
from deepfm.settings.conf_files import load_profile
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings

ROWS = [f"{n % 3 % 2},{'ab'[n % 2]},{n % 5}" for n in range(24)]
COMMANDS = ["build-features", "train", "promote", "score", "evaluate"]


@pytest.fixture
def create(tmp_path):
    """create(*flags) -> folder of the project."""

    def run(*flags):
        done = CliRunner().invoke(init, [str(tmp_path / "ctr"), *map(str, flags)])
        if done.exception:
            raise done.exception
        return tmp_path / "ctr"

    return run


def commands_of(project) -> dict[str, list[str]]:
    """{command: flags} of the README."""
    (block,) = re.findall(r"```sh\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    lines = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert all(words[0] == "deepfm" for words in lines)
    return {words[1]: words[2:] for words in lines}


@pytest.fixture
def log(write_log):
    return write_log({f"2026-01-0{day}": ["click,site,views", *ROWS] for day in range(1, 6)})


def test_a_project_has_valid_settings(create):
    project = create()
    load_settings(project / "conf/data/mine.yaml", DataSettings)
    load_settings(project / "conf/model/deepfm.yaml", ModelSettings)
    profile = load_profile(str(project / "conf/profile/local.yaml"))
    assert profile.work_dir == f"{project}/work/runs"
    assert list(commands_of(project)) == COMMANDS


def test_the_schedule_works_in_the_project(create):
    project = create()
    crontab = (project / "conf/schedule/crontab").read_text()
    assert f"cd {project} &&" in crontab and "/opt/ctr" not in crontab
    jobs = set(re.findall(r"jobs/\w+\.py", crontab))
    assert jobs and all((project / job).exists() for job in jobs)
    compile((project / "conf/schedule/airflow_dag.py").read_text(), "airflow_dag.py", "exec")


def test_the_commands_of_the_readme_fit_the_log(create, log, run_job, monkeypatch, store):
    project = create("--log", log)
    monkeypatch.chdir(project)
    commands = commands_of(project)
    assert run_job("build_features", *commands["build-features"], "--dry-run").summary["num_files"] == 4
    assert not (project / "work").exists()
    assert run_job("build_features", *commands["build-features"]).summary["rows_train"] == 48
    flags = [*commands["train"], "--num-workers", 0, "--dry-run"]
    assert run_job("train", *flags).status == 0
    assert commands["score"][:2] == ["--date", "2026-01-05"]


def test_a_folder_that_is_not_empty_is_refused(create, tmp_path):
    (tmp_path / "ctr").mkdir()
    (tmp_path / "ctr" / "mine").write_text("mine")
    with pytest.raises(UserError, match="expected a new or empty folder, found files"):
        create()
    assert [path.name for path in (tmp_path / "ctr").iterdir()] == ["mine"]


def test_nothing_is_written_if_the_log_cannot_be_described(create, tmp_path):
    with pytest.raises(UserError, match="the path does not exist"):
        create("--log", tmp_path / "none")
    assert not (tmp_path / "ctr").exists()
