"""deepfm and python -m deepfm as processes."""

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import click

from deepfm.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def deepfm(*flags, **environment):
    return subprocess.run(
        [sys.executable, "-m", "deepfm", *flags],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_help_lists_all_commands_where_their_packages_are_broken(tmp_path):
    (tmp_path / "mlflow.py").write_text("raise ImportError('libarrow.so: cannot open shared object')")
    done = deepfm("--help", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout and "status" in done.stdout


def test_the_help_needs_neither_spark_nor_torch(tmp_path):
    for name in ("pyspark", "torch", "mlflow", "pyarrow", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    done = deepfm("--help", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 0, done.stderr
    assert "build-features" in done.stdout


def test_the_version_is_that_of_all_that_matters():
    done = deepfm("--version")
    versions = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    names = ["deepfm", "python", "pyspark", "torch", "horovod", "petastorm", "mlflow", "pyarrow"]
    assert list(versions) == names
    assert versions["pyarrow"] == metadata.version("pyarrow")


def test_every_job_is_a_command_with_the_same_flags():
    context = click.Context(main)
    for path in (ROOT / "jobs").glob("*.py"):
        if path.stem != "environment":
            command = getattr(importlib.import_module(f"deepfm.cli.{path.stem}"), path.stem)
            assert main.get_command(context, path.stem.replace("_", "-")) is command


def test_an_error_of_a_command_that_is_no_job_has_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = deepfm("synthetic", "--rows-per-day", "1", "--output", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "expected a new or empty folder" in line


def test_the_shell_completes_commands():
    variables = {"_DEEPFM_COMPLETE": "bash_complete", "COMP_WORDS": "deepfm sc", "COMP_CWORD": "1"}
    program = "import sys; sys.argv[0] = 'deepfm'; from deepfm.__main__ import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "plain,score\n", done.stderr


def test_a_command_whose_package_is_broken_is_an_error_of_one_line(tmp_path):
    (tmp_path / "mlflow.py").write_text("raise ImportError('libarrow.so: cannot open shared object')")
    done = deepfm("status", "m", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "cannot import libarrow.so: cannot open shared object: run `. .venv/bin/activate`" in line


def test_an_unknown_command_is_an_error_of_one_line():
    done = deepfm("doktor")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No such command 'doktor'") and "; see --help" in done.stderr
