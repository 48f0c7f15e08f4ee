"""python -m deepfm as a process."""

import os
import subprocess
import sys
from pathlib import Path

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
