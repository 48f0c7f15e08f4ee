"""The demo, with stages that only record their commands, and the Makefile's targets."""

import importlib
import os
import runpy
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

PROJECT = Path(__file__).resolve().parents[2]
SUMMARIES = {
    "build_features": {"rows_read": 8, "rows_bad": 0, "num_ids": 4, "num_fields": 2},
    "train": {"samples_per_s": 5, "num_workers": 2, "epochs": 2, "version": "1"}
    | {"test_auc": 0.7, "test_logloss": 0.5, "test_ctr_logloss": 0.6},
    "promote": {"promoted": True, "version": "1", "reasons": ["there is no champion yet"]},
    "score": {"date": "2026-01-04", "rows_scored": 2, "version": "1", "mean_probability": 0.5, "output": "X"},
}


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """demo(*flags) -> (commands of the stages, stdout); the project folder is a temporary one."""

    def run(*flags):
        commands = []

        def record(title, command, *path):
            commands.append((command, *path))
            assert Path.cwd() == project
            return SUMMARIES[Path(command.split()[0]).stem] | {"seconds": 1.0}

        module = importlib.import_module("deepfm.cli.demo")
        monkeypatch.setattr(module, "run", record)
        done = CliRunner().invoke(module.demo, flags, obj=project)
        assert done.exit_code == 0, done.output
        return commands, done.stdout

    project = tmp_path / "project"
    project.mkdir()
    for day in range(1, 5):
        (tmp_path / "elsewhere" / "a log" / f"ds=2026-01-0{day}").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return run


def test_the_demo_finds_a_log_relative_to_the_working_directory(demo, tmp_path):
    commands, stdout = demo("--input", "a log")
    log = f"file://{tmp_path}/elsewhere/a log"
    assert [path for _, *path in commands] == [[log], [], [], [log]]
    assert "--train-days 2026-01-01:2026-01-01" in commands[0][0]
    assert f"cd {tmp_path}/project && .venv/bin/mlflow" in stdout


def test_the_demo_does_not_change_the_champions_of_real_logs(demo):
    """No command in the README, docs/ and conf/ uses the demo's model name."""
    commands, _ = demo("--input", "a log")
    named = [command for command, *_ in commands if "--name" in command or "models:/" in command]
    assert len(named) == 3
    assert all("--name ctr_demo" in command or "models:/ctr_demo@" in command for command in named)
    pages = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
    assert len(pages) > 1
    texts = [*pages, *(path for path in (PROJECT / "conf").rglob("*") if path.is_file())]
    demo_names = ("--name ctr_demo", "--name=ctr_demo", "models:/ctr_demo")
    assert [
        path for path in texts if any(name in path.read_text(encoding="utf-8") for name in demo_names)
    ] == []


def test_the_job_passes_its_project_folder(monkeypatch):
    module, passed = importlib.import_module("deepfm.cli.demo"), {}
    monkeypatch.setattr(module, "demo", lambda **settings: passed.update(settings))
    monkeypatch.syspath_prepend(str(PROJECT / "jobs"))
    runpy.run_path(str(PROJECT / "jobs" / "demo.py"), run_name="__main__")
    assert passed == {"obj": PROJECT}


# make demo and make clean


@pytest.fixture
def make(tmp_path):
    """make(*arguments) -> its output, in a folder with the Makefile and a fake Python."""
    (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text('#!/bin/sh\nfor word; do echo "[$word]"; done\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    for name in ("requirements.lock", "setup.py", ".ci/set_up.py", ".ci/build_horovod.py", ".venv/.ready"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def run(*arguments):
        clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "INPUT")}
        command = ["make", "-s", "-C", str(tmp_path), "--no-print-directory", *arguments]
        return subprocess.run(command, env=clean, check=True, capture_output=True, text=True).stdout

    return run


@pytest.mark.parametrize("log", ["train.txt", 'my log/it\'s "new".txt'])
def test_make_passes_the_path_of_a_log_as_one_argument(make, log):
    assert make("demo", f"INPUT={log}").splitlines() == ["[jobs/demo.py]", "[--input]", f"[{log}]"]


def test_make_passes_no_log_if_none_is_given(make):
    assert make("demo") == "[jobs/demo.py]\n"


def test_make_clean_keeps_runs_models_and_published_scores(make, tmp_path):
    kept = ["work/mlflow.db", "work/runs/a/__pycache__/code.pyc", "work/scores/ds=2026-01-08/part.parquet"]
    removed = ["build/x", ".venv/x", "work/demo/log/x", "deepfm/__pycache__/x.pyc", ".ruff_cache/x"]
    removed.append(".mypy_cache/x")
    for name in kept + removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    make("clean")
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in removed if (tmp_path / name).parent.exists()] == []
