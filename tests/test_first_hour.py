"""Errors that new users make: each is reported in one line with a remedy, with exit status 2.

tests/test_bad_input.py checks that such errors leave no partial output.
"""

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from pyspark import SparkConf

from deepfm.cli.spark import session

ROOT = Path(__file__).resolve().parents[1]
JOBS = ("build_features", "compare", "demo", "evaluate", "promote", "score", "train", "tune")

DAYS = "--train-days 2026-01-01 --valid-days 2026-01-02 --test-days 2026-01-03"
BUILD = "build_features --output {folder}/out --input {folder}/log --data {folder}/data.yaml "
TRAIN = "train --dataset {dataset} --name first_hour --num-workers 0 --model {folder}/model.yaml "
SCORE = "score --input {folder}/log --output {folder}/scores --date 2026-01-03 --model-uri {champion} "

#: Name -> (command line, phrases of the error line). A later flag overrides an earlier one.
BEFORE_SPARK = {
    "a flag with a typo": (TRAIN + "--modle x", ["No such option '--modle'", "--help"]),
    "a flag without its value": (BUILD + "--train-days", ["'--train-days' requires an argument"]),
    "a flag left out": ("train --dataset x --name y", ["Missing option '--model'"]),
    "a number of workers that is text": (TRAIN + "--num-workers two", ["'two' is not a valid integer"]),
    "a negative number of workers": (TRAIN + "--num-workers -1", ["-1 is not in the range"]),
    "a missing data YAML": (BUILD + "--data {folder}/no.yaml", ["no.yaml", "check the path"]),
    "a missing profile": (BUILD + "--profile ../no.yaml", ["../no.yaml", "check the path"]),
    "a folder for a YAML": (TRAIN + "--model {folder}", ["cannot read the YAML file"]),
    "a YAML with a syntax error": (BUILD + "--data {folder}/syntax.yaml", ["syntax.yaml", "line 2"]),
    "an empty YAML": (BUILD + "--data {folder}/empty.yaml", ["expected a mapping of settings"]),
    "a typo in a model YAML": (TRAIN + "--model {folder}/typo.yaml", ["did you mean embedding_dim?"]),
    "a model that does not exist": (TRAIN + "--model {folder}/gbdt.yaml", ["model: Input should be 'lr'"]),
    "a model YAML as the data YAML": (BUILD + "--data {folder}/model.yaml", ["unknown key model"]),
    "a missing dataset": (TRAIN + "--dataset {folder}/nothing", ["check --dataset"]),
    "the log as the dataset": (TRAIN + "--dataset {folder}/log", ["no manifest.json", "build_features.py"]),
    "a name that is a path": (TRAIN + "--name ../x", ["expected a model's name without / : @"]),
    "a port of another server": (TRAIN + "--tracking-uri {other}", ["MLflow cannot use this store"]),
    "a tracking URI of another kind": (TRAIN + "--tracking-uri mlruns", ["MLflow cannot use this store", "sqlite:///mlflow.db"]),
    "an unknown run to resume": (TRAIN + "--resume abc", ["--resume abc", "found no run with this id"]),
    "nothing to register": (TRAIN + "--register-only {folder}", ["expected the folder", "found none"]),
    "an unknown start model": (TRAIN + "--warm-start models:/nobody@champion", ["no such model"]),
    "a URL with one slash": (TRAIN + "--dataset hdfs:/data", ["hdfs:/data: slashes are missing in this URL"]),
    "a path with a pattern": (TRAIN + "--dataset data/*", ["expected a path without * ?", "found *; rename"]),
    "two start models": (TRAIN + "--warm-start x --init-from y", ["exclude each other", "use one"]),
    "a model of another dataset": (
        TRAIN + "--warm-start {stranger}",
        ["fields of the model, found new I", "build it with --grow"],
    ),
    "a date in another form": (SCORE + "--date 3.1.2026", ["expected a day YYYY-MM-DD, found 3.1.2026"]),
    "a date that is a path": (SCORE + "--date ../x", ["expected a day YYYY-MM-DD, found ../x"]),
    "a range in the wrong order": (
        SCORE.replace("--date", "--to") + "--from 2026-01-05",
        ["the earlier day first"],
    ),
    "an unregistered name": (SCORE + "--model-uri models:/nobody/1", ["no such model", "check the name"]),
    "an alias that is not set": (SCORE + "--model-uri models:/first_hour_champion@best", ["no such model"]),
    "a model without a version": (
        SCORE + "--model-uri models:/x",
        ["models:/NAME@ALIAS or models:/NAME/VERSION"],
    ),
    "nothing to promote": (
        "promote --name nobody",
        ["no model nobody", "train.py --name nobody"],
    ),
    "no previous champion": ("promote --rollback --name first_hour_champion", ["first_hour_champion"]),
    "a day that was never scored": (
        "evaluate --date 2026-01-03 --scores {folder} --input {folder}/log --key id",
        ["expected a published day, found none; score it first"],
    ),
    "missing models": (
        "compare --dataset {dataset} --models lr,gbm",
        ["gbm.yaml", "check the path"],
    ),
}  # fmt: skip

#: The same with exit status 1: a retry may succeed.
UNREACHABLE = {
    "a server that is unreachable": (
        TRAIN + "--tracking-uri {closed}",
        ["no MLflow server answers", "mlflow server"],
    ),
}

#: Errors that are detected when the log is read or Spark's slots are counted.
WITH_SPARK = {
    "a missing log": (BUILD + DAYS + " --input ../no", ["the path does not exist; check --input"]),
    "an empty log": (BUILD + DAYS + " --input {folder}/empty", ["expected files with rows, found none"]),
    "no days for a log with days": (BUILD, ["has days: give --train-days"]),
    "days for a log without": (
        BUILD + DAYS + " --input {folder}/log/ds=2026-01-01",
        ["remove --train-days"],
    ),
    "days not in the log": (BUILD + DAYS.replace("03", "09"), ["2026-01-09", "it has 2026-01-01 to"]),
    "days in the wrong order": (BUILD + DAYS + " --train-days 2026-01-02:2026-01-01", ["A before B"]),
    "days that overlap": (BUILD + DAYS + " --valid-days 2026-01-01:2026-01-02", ["overlap", "disjoint"]),
    "days in another form": (
        BUILD + DAYS + " --test-days 3/1/2026",
        ["--test-days: expected a day YYYY-MM-DD"],
    ),
    "a header where none is expected": (BUILD + DAYS + " --input {folder}/headed", ["header: true"]),
    "no header where one is expected": (
        BUILD + DAYS + " --data {folder}/header.yaml",
        ["header and delimiter"],
    ),
    "a column that is not in the log": (
        BUILD + DAYS + " --input {folder}/headed --data {folder}/absent.yaml",
        ["expected columns J, found only label, I, C", "check the names"],
    ),
    "another name for the label": (
        BUILD + DAYS + " --input {folder}/headed --data {folder}/clicked.yaml",
        ["expected columns clicked, found only label, I, C"],
    ),
    "a wrong delimiter": (
        BUILD + DAYS + " --data {folder}/comma.yaml",
        ["72 of 72 rows do not fit", "check delimiter and columns"],
    ),
    "a label that is not 0 or 1": (BUILD + DAYS + " --input {folder}/rated", ["label", "rows do not fit"]),
    "text for Parquet": (
        BUILD + DAYS + " --data {folder}/parquet.yaml",
        ["expected a Parquet file", "check `format`"],
    ),
    "a Parquet column of text for numbers": (
        BUILD + DAYS + " --input {folder}/typed --data {folder}/parquet.yaml",
        ["rows do not fit", "fix the log or the data YAML"],
    ),
    "an existing output": (
        BUILD + DAYS + " --output {dataset}",
        ["is already a complete dataset"],
    ),
    "an output full of other files": (BUILD + DAYS + " --output {folder}", ["choose another --output"]),
    "an output below a file": (BUILD + DAYS + " --output {folder}/data.yaml/out", ["cannot be written"]),
    "growing a folder that is no dataset": (BUILD + DAYS + " --grow {folder}/log", ["{folder}/log"]),
    "more workers than slots": (TRAIN + "--num-workers 9", ["found 2 on local[2]", "lower --num-workers"]),
    "an unknown column to keep": (SCORE + "--keep city", ["city"]),
}  # fmt: skip

COLUMNS = {"fields": [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}]}
MODEL = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [2]}}
TRAINING = {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.01}


class OtherServer(BaseHTTPRequestHandler):
    """A server that is not MLflow."""

    def do_GET(self):
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content))


def write_days(folder, head=(), label=lambda n: n % 2):
    for day in (1, 2, 3):
        (folder / f"ds=2026-01-0{day}").mkdir(parents=True)
        lines = [*head, *(f"{label(n)}\t{n % 3}\t{'ab'[n % 2]}" for n in range(24))]
        (folder / f"ds=2026-01-0{day}" / "part.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of input files, most of them invalid."""
    folder = tmp_path_factory.mktemp("first hour")
    write_days(folder / "log")
    write_days(folder / "headed", head=["label\tI\tC"])
    write_days(folder / "rated", label=lambda n: n % 5)
    for day in (1, 2, 3):
        (folder / "empty" / f"ds=2026-01-0{day}").mkdir(parents=True)
        (folder / "empty" / f"ds=2026-01-0{day}" / "part.tsv").touch()
        (folder / "typed" / f"ds=2026-01-0{day}").mkdir(parents=True)
        rows = pa.table({"label": [0, 1], "I": ["few", "many"], "C": ["a", "b"]})
        pq.write_table(rows, folder / "typed" / f"ds=2026-01-0{day}" / "part.parquet")
    text = COLUMNS | {"format": "delimited"}
    named = text | {"columns": ["label", "I", "C"]}
    write_yaml(folder / "data.yaml", named)
    write_yaml(folder / "comma.yaml", named | {"delimiter": ","})
    write_yaml(folder / "header.yaml", text | {"header": True})
    write_yaml(folder / "absent.yaml", text | {"header": True, "fields": [{"kind": "count", "names": ["J"]}]})
    write_yaml(folder / "clicked.yaml", text | {"header": True, "label": "clicked"})
    write_yaml(folder / "parquet.yaml", COLUMNS | {"format": "parquet"})
    write_yaml(folder / "model.yaml", MODEL | {"training": TRAINING})
    write_yaml(folder / "typo.yaml", MODEL | {"training": TRAINING, "embeding_dim": 8})
    write_yaml(folder / "gbdt.yaml", MODEL | {"training": TRAINING, "model": "gbdt"})
    (folder / "syntax.yaml").write_text("format: delimited\ncolumns: [label\nfields: x\n")
    (folder / "empty.yaml").touch()
    return folder


@pytest.fixture
def champion(save_model, register, store):
    """URI of a registered model with the fields of the dataset."""
    name = "first_hour_champion"
    if not store.client.search_registered_models(f"name = '{name}'"):
        register(save_model(), name)
        store.client.set_registered_model_alias(name, "champion", "1")
    return f"models:/{name}@champion"


@pytest.fixture
def stranger(save_model, register):
    """URI of a registered model with other fields than the dataset."""
    return f"models:/first_hour_stranger/{register(save_model(with_i=False), 'first_hour_stranger')}"


@pytest.fixture(scope="module")
def servers():
    """Addresses by name: "closed" (no server) and "other" (a server that is not MLflow)."""
    servers = [HTTPServer(("127.0.0.1", 0), OtherServer) for _ in range(2)]
    closed, other = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    servers[0].server_close()
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    yield {"closed": closed, "other": other}
    servers[1].shutdown()
    servers[1].server_close()


@pytest.fixture
def words(folder, servers, request):
    """words(command) -> job and flags, with the names in {} replaced."""

    def fill(command):
        fixtures = {"champion": "champion", "stranger": "stranger", "dataset": "small_dataset"}
        needed = {name: fixture for name, fixture in fixtures.items() if f"{{{name}}}" in command}
        values = {name: shlex.quote(str(request.getfixturevalue(needed[name]))) for name in needed}
        return shlex.split(command.format(folder=shlex.quote(str(folder)), **servers, **values))

    return fill


@pytest.fixture
def error_line(profile_path):
    """error_line(job, flags) -> the error line of a job that starts its own session."""

    def run(job, *flags, profile=profile_path, status=2):
        flags = ["--profile", str(profile), *map(str, flags)]  # a profile in `flags` overrides it
        done = CliRunner().invoke(getattr(importlib.import_module(f"deepfm.cli.{job}"), job), flags)
        assert (done.exit_code, done.stdout) == (status, ""), done.exception
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    return run


def check(line, phrases, folder):
    assert [phrase for phrase in phrases if phrase.format(folder=folder) not in line] == [], line
    assert len(line) < 1000


@pytest.mark.parametrize("case", [*BEFORE_SPARK, *UNREACHABLE])
def test_an_error_is_reported_in_one_line_before_spark_starts(words, error_line, folder, case, monkeypatch):
    command, phrases = (BEFORE_SPARK | UNREACHABLE)[case]
    job, *flags = words(command)
    monkeypatch.setattr(session, "SparkConf", lambda: pytest.fail("a session was started"))
    check(error_line(job, *flags, status=1 if case in UNREACHABLE else 2), phrases, folder)


@pytest.mark.parametrize("case", WITH_SPARK)
def test_an_error_in_the_log_is_reported_in_one_line(words, run_job, folder, case):
    command, phrases = WITH_SPARK[case]
    check(run_job(*words(command)).mistake, phrases, folder)


@pytest.mark.parametrize("command", [*(f"jobs/{job}.py" for job in JOBS), "-m deepfm doctor"])
def test_an_environment_that_is_not_activated_is_reported(command):
    """-S starts Python without the packages of the environment and of the machine."""
    command = [sys.executable, "-S", *command.split(), "--help"]
    # PYTHONPATH of the tests could contain the packages.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    package = "deepfm" if command[2].startswith("jobs/") else "click"
    line = done.stderr.removeprefix("error: ")
    check(line, [f"{sys.executable} cannot import {package}", ".venv/bin/activate", "make env"], "")
    assert done.stderr.count("\n") == 1


# The environment of Spark


@pytest.fixture
def build_error_line(folder, error_line, profile_path, tmp_path, monkeypatch):
    """build_error_line(properties, status) -> error line of build_features.py with these Spark properties."""
    # Without the properties of the tests' session.
    monkeypatch.setattr(session, "SparkConf", lambda: SparkConf(loadDefaults=False))

    def run(status=2, **properties):
        profile = yaml.safe_load(profile_path.read_text())
        profile["spark"] |= properties
        write_yaml(tmp_path / "profile.yaml", profile)
        flags = ["--data", folder / "data.yaml", "--input", folder / "log", "--output", tmp_path / "out"]
        return error_line("build_features", *flags, profile=tmp_path / "profile.yaml", status=status)

    return run


def test_a_missing_java_is_reported(build_error_line, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    line = build_error_line()
    assert "needs Java 17 or newer, but found none on the PATH: apt-get install openjdk-17" in line


def test_an_old_java_is_reported(build_error_line, monkeypatch, tmp_path):
    (tmp_path / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert f"but {tmp_path}/java is Java 11: apt-get install" in build_error_line()


def test_a_java_home_without_java_is_reported(build_error_line, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert "has no bin/java" in build_error_line()


@pytest.mark.skipif(shutil.which("java") is None, reason="Java is checked before the master")
def test_an_unreachable_master_is_reported(build_error_line, servers):
    master = servers["closed"].replace("http", "spark")
    line = build_error_line(status=1, **{"spark.master": master})
    assert f"{master} does not answer" in line and "change spark.master in the profile" in line


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia/gpus"), reason="there are GPUs here")
def test_missing_gpus_are_reported(build_error_line):
    line = build_error_line(**{"spark.task.resource.gpu.amount": 1})
    assert "the profile requests GPUs, this machine has none; remove the spark.*" in line
