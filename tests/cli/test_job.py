"""Contract of every job: exit status, one line of JSON, one line for a user error."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from py4j.protocol import Py4JJavaError

from deepfm.cli.job import JobCommand, _StderrHandler, is_verbose, job, to_job_error
from deepfm.cli.options.common import tracking_option
from deepfm.errors import JobFailedError, UserError

ROOT = Path(__file__).resolve().parents[2]
JOBS = ("build_features", "train", "compare", "tune", "promote", "score", "evaluate", "demo")


def invoke(function, *flags):
    """Run a job that calls `function` and takes one flag, --day."""
    command = click.command(cls=JobCommand, help="A job.\n\n\b\nExample:\n\n    job.py --day 2026-01-01")(
        click.option("--day", type=click.INT, required=True)(job(function))
    )
    return CliRunner().invoke(command, flags)


def count(day) -> dict:
    click.echo("counting", err=True)
    return {"day": day, "rows": 3}


def test_a_finished_job_prints_its_summary_as_one_line_of_json():
    done = invoke(count, "--day", "1")
    assert done.exit_code == 0
    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    assert list(summary) == ["job", "day", "rows", "seconds"]
    assert (summary["job"], summary["rows"]) == ("count", 3)
    assert done.stderr == "counting\n"


def test_a_metric_that_is_not_finite_is_null():
    """JSON has no NaN; the AUC of a day without clicks is NaN."""

    def measure(day):
        return {"auc": float("nan"), "logloss": float("inf"), "name": "nan"}

    text = invoke(measure, "--day", "1").stdout
    summary = json.loads(text, parse_constant=pytest.fail)
    assert (summary["auc"], summary["logloss"], summary["name"]) == (None, None, "nan")


def test_a_user_error_is_one_line_and_status_2():
    def fail(day):
        raise UserError("expected a day,\n  found none")

    done = invoke(fail, "--day", "1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: expected a day, found none\n"


def test_a_bug_keeps_its_stack_trace_and_has_status_1():
    def fail(day):
        return {"ratio": 1 / 0}

    done = invoke(fail, "--day", "1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert isinstance(done.exception, ZeroDivisionError)


@pytest.mark.parametrize("flags", [[], ["--day", "x"], ["--dey", "1"], ["--day"], ["--day", "1", "2"]])
def test_an_invalid_flag_is_one_line_and_status_2(flags):
    done = invoke(count, *flags)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert "--help" in done.stderr


def test_an_interrupted_job_has_status_130():
    def wait(day):
        raise KeyboardInterrupt

    assert invoke(wait, "--day", "1").exit_code == 130


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_job_that_is_ended_by_a_signal_has_its_status(number, status):
    def wait(day):
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    done = invoke(wait, "--day", "1")
    assert (done.exit_code, done.stdout) == (status, "")
    assert signal.getsignal(number) == before


def test_a_job_under_nohup_survives_a_closed_terminal():
    def hang_up(day):
        os.kill(os.getpid(), signal.SIGHUP)
        return count(day)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert invoke(hang_up, "--day", "1").exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def tracked():
    """A job that returns the tracking URI it was given."""

    def track(tracking_uri) -> dict:
        return {"uri": tracking_uri}

    return click.command(cls=JobCommand, help="A job.")(tracking_option(job(track)))


def test_the_tracking_uri_of_the_environment_is_used_and_logged(tracked, caplog):
    caplog.set_level(logging.INFO)
    uri = "http://user:secret@host:5000"
    done = CliRunner().invoke(tracked, [], env={"MLFLOW_TRACKING_URI": uri})
    assert json.loads(done.stdout)["uri"] == uri
    assert "MLFLOW_TRACKING_URI is set and overrides the profile" in caplog.text
    assert "http://host:5000" in caplog.text and "secret" not in caplog.text


def test_the_flag_precedes_the_tracking_uri_of_the_environment(tracked, caplog):
    caplog.set_level(logging.INFO)
    flags = ["--tracking-uri", "http://flag"]
    done = CliRunner().invoke(tracked, flags, env={"MLFLOW_TRACKING_URI": "http://host"})
    assert json.loads(done.stdout)["uri"] == "http://flag" and "MLFLOW_TRACKING_URI" not in caplog.text


def test_an_error_during_the_clean_up_after_an_interrupt_is_not_reported():
    def wait(day):
        try:
            raise KeyboardInterrupt
        finally:
            raise ConnectionError("Java is gone")

    done = invoke(wait, "--day", "1")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "Java" not in done.stderr


@pytest.mark.parametrize(("flags", "level"), [([], logging.WARNING), (["--verbose"], logging.INFO)])
def test_libraries_log_at_info_in_verbose_jobs_only(flags, level):
    def report_levels(day):
        levels = {logging.getLogger(name).getEffectiveLevel() for name in ("mlflow", "horovod", "alembic")}
        return {"levels": list(levels), "verbose": is_verbose()}

    summary = json.loads(invoke(report_levels, "--day", "1", *flags).stdout)
    assert (summary["levels"], summary["verbose"]) == ([level], bool(flags))


def test_every_job_can_be_verbose():
    for name in JOBS:
        job = getattr(import_module(f"deepfm.cli.{name}"), name)
        assert "verbose" in [parameter.name for parameter in job.params], name


@pytest.mark.parametrize("name", [name for name in JOBS if name != "demo"])
def test_help_shows_an_example(name):
    module = import_module(f"deepfm.cli.{name}")
    done = CliRunner().invoke(getattr(module, name), ["--help"])
    assert done.exit_code == 0
    assert f"spark-submit jobs/{name}.py" in done.stdout


def test_the_process_of_a_job_has_its_exit_status_and_error_line():
    command = [sys.executable, "jobs/promote.py", "--name"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: Option '--name' requires an argument.; see --help\n"


@pytest.mark.slow
@pytest.mark.parametrize("verbose", [False, True])
def test_a_job_is_quiet_unless_it_is_verbose(tmp_path, verbose):
    """A job that starts Spark, reads a log and writes a dataset prints its summary only."""
    (tmp_path / "log.tsv").write_text("".join(f"{n % 2}\t{n % 3}\tv{n % 49}\n" for n in range(300)))
    (tmp_path / "data.yaml").write_text(
        "format: delimited\ncolumns: [label, I, C]\n"
        "fields: [{kind: count, names: [I]}, {kind: category, names: [C]}]\n"
        "hash_split: {valid: 0.1, test: 0.1}\n"
    )
    paths = {"data": "data.yaml", "input": "log.tsv", "output": "dataset"}
    flags = [f"--{flag}={tmp_path / name}" for flag, name in paths.items()]
    command = [sys.executable, "jobs/build_features.py", *flags, *["--verbose"] * verbose]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    # Progress lines are expected on a slow machine.
    expected = (" INFO starting Spark on local[2]", " INFO build_features: ")
    unexpected = [line for line in done.stderr.splitlines() if not any(text in line for text in expected)]
    assert any("WARN" in line for line in unexpected) if verbose else unexpected == []


@pytest.mark.parametrize("verbose", [False, True])
def test_mlflow_is_as_quiet_as_the_job_that_imports_it(verbose):
    script = (
        f"from deepfm.cli import job; job._log_to_stderr({verbose}); "
        "from deepfm.tracking.logging import silence_mlflow; silence_mlflow(); "
        "from mlflow.utils.logging_utils import eprint; eprint('Created version')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = f"{ROOT}"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("Created version" in done.stderr) == verbose


def test_log_lines_go_to_the_current_stderr(monkeypatch):
    """A progress bar replaces sys.stderr to print them above itself."""
    handler, bar = _StderrHandler(), io.StringIO()
    record = logging.makeLogRecord({"msg": "epoch 1", "levelno": logging.INFO})
    monkeypatch.setattr(sys, "stderr", bar)
    handler.emit(record)
    assert bar.getvalue() == "epoch 1\n"


def test_an_unexpected_error_shows_its_stack_trace(tmp_path):
    """A property that only Spark validates prevents its start."""
    profile = (ROOT / "conf/profile/local.yaml").read_text()
    wrong = profile.replace("spark.ui.enabled: false", "spark.ui.enabled: never")
    (tmp_path / "profile.yaml").write_text(wrong)
    (tmp_path / "log.tsv").write_text("1\n")
    flags = ["--data", "conf/data/criteo.yaml", "--input", tmp_path / "log.tsv", "--output", tmp_path / "out"]
    command = [sys.executable, "jobs/build_features.py", *map(str, flags), "--profile"]
    done = subprocess.run(
        [*command, str(tmp_path / "profile.yaml")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [UserError, JobFailedError])
def test_an_error_of_a_spark_task_is_reported_as_if_it_was_raised_by_the_job(spark, error):
    def fail(_):
        raise error("file:///log/a: it failed")

    with pytest.raises(Py4JJavaError) as raised:
        spark.sparkContext.parallelize([1], 1).map(fail).collect()
    found = to_job_error(raised.value)
    assert (type(found), str(found)) == (error, "file:///log/a: it failed")
