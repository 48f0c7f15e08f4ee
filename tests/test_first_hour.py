"""What goes wrong in a newcomer's first hour: each mistake is one line that says what to do, with status 2.

Beside it tests/test_bad_input.py looks at what such a mistake leaves behind.
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
BUILD = "build_features --output {place}/out --input {place}/log --data {place}/data.yaml "
TRAIN = "train --dataset {dataset} --name first_hour --num-workers 0 --model {place}/model.yaml "
SCORE = "score --input {place}/log --output {place}/scores --date 2026-01-03 --model-uri {champion} "

#: name: (command line; a later flag wins over an earlier one, phrases of the line). They need no Spark.
AT_ONCE = {
    "a flag with a typo": (TRAIN + "--modle x", ["No such option '--modle'", "--help"]),
    "a flag without its value": (BUILD + "--train-days", ["'--train-days' requires an argument"]),
    "a flag left out": ("train --dataset x --name y", ["Missing option '--model'"]),
    "workers that are no number": (TRAIN + "--num-workers two", ["'two' is not a valid integer"]),
    "fewer than no workers": (TRAIN + "--num-workers -1", ["-1 is not in the range"]),
    "a data YAML that is not there": (BUILD + "--data {place}/no.yaml", ["no.yaml", "check the path"]),
    "a profile that is not there": (BUILD + "--profile ../no.yaml", ["../no.yaml", "check the path"]),
    "a folder for a YAML": (TRAIN + "--model {place}", ["cannot read the YAML file"]),
    "a YAML with a syntax error": (BUILD + "--data {place}/syntax.yaml", ["syntax.yaml", "line 2"]),
    "an empty YAML": (BUILD + "--data {place}/empty.yaml", ["expected a mapping of settings"]),
    "a typo in a model YAML": (TRAIN + "--model {place}/typo.yaml", ["did you mean embedding_dim?"]),
    "a model that does not exist": (TRAIN + "--model {place}/gbdt.yaml", ["model: Input should be 'lr'"]),
    "a model YAML as the data YAML": (BUILD + "--data {place}/model.yaml", ["unknown key model"]),
    "a dataset that is not there": (TRAIN + "--dataset {place}/nothing", ["check --dataset"]),
    "the log as the dataset": (TRAIN + "--dataset {place}/log", ["expected a dataset", "build_features.py"]),
    "a name that is a path": (TRAIN + "--name ../x", ["expected a model's name without / : @"]),
    "a port where another server is": (TRAIN + "--tracking-uri {other}", ["MLflow cannot use this store"]),
    "a tracking URI of another kind": (TRAIN + "--tracking-uri mlruns", ["expected sqlite:///FILE, http"]),
    "a run to resume that is unknown": (TRAIN + "--resume abc", ["--resume abc", "found none of that id"]),
    "nothing to register": (TRAIN + "--register-only {place}", ["expected the folder", "found none"]),
    "a start that is no version": (TRAIN + "--warm-start models:/nobody@champion", ["no such model"]),
    "a URL with one slash": (TRAIN + "--dataset hdfs:/data", ["hdfs:/data: slashes are missing in this URL"]),
    "a path with a pattern": (TRAIN + "--dataset data/*", ["expected a path without * ?", "found *; rename"]),
    "two starts": (TRAIN + "--warm-start x --init-from y", ["exclude each other", "give one"]),
    "a model of another dataset": (
        TRAIN + "--warm-start {stranger}",
        ["fields of the model, found new I", "build it with --grow"],
    ),
    "a date in another form": (SCORE + "--date 3.1.2026", ["expected a day YYYY-MM-DD, found 3.1.2026"]),
    "a date that is a path": (SCORE + "--date ../x", ["expected a day YYYY-MM-DD, found ../x"]),
    "a range the wrong way": (
        SCORE.replace("--date", "--to") + "--from 2026-01-05",
        ["the earlier day first"],
    ),
    "a name nobody registered": (SCORE + "--model-uri models:/nobody/1", ["no such model", "check the name"]),
    "an alias nobody set": (SCORE + "--model-uri models:/first_hour_champion@best", ["no such model"]),
    "a model without a version": (
        SCORE + "--model-uri models:/x",
        ["models:/NAME@ALIAS or models:/NAME/VERSION"],
    ),
    "nothing to promote": (
        "promote --name nobody",
        ["no model nobody", "train.py --name nobody"],
    ),
    "no champion to go back to": ("promote --rollback --name first_hour_champion", ["first_hour_champion"]),
    "a day that was never scored": (
        "evaluate --date 2026-01-03 --scores {place} --input {place}/log --key id",
        ["expected a published day, found none; score it first"],
    ),
    "models that are not there": (
        "compare --dataset {dataset} --models lr,gbm",
        ["gbm.yaml", "check the path"],
    ),
}  # fmt: skip

#: The same with exit status 1, as a retry may succeed.
UNREACHABLE = {
    "a server that is unreachable": (
        TRAIN + "--tracking-uri {closed}",
        ["no MLflow server answers", "mlflow server"],
    ),
}

#: These are seen by what reads the log, or counts Spark's slots.
WITH_SPARK = {
    "a log that is not there": (BUILD + DAYS + " --input ../no", ["the path does not exist; check --input"]),
    "a log without rows": (BUILD + DAYS + " --input {place}/empty", ["expected files with rows, found none"]),
    "no days for a log with days": (BUILD, ["has days: give --train-days"]),
    "days for a log without": (
        BUILD + DAYS + " --input {place}/log/ds=2026-01-01",
        ["remove --train-days"],
    ),
    "days that the log has not": (BUILD + DAYS.replace("03", "09"), ["2026-01-09", "it has 2026-01-01 to"]),
    "days the wrong way round": (BUILD + DAYS + " --train-days 2026-01-02:2026-01-01", ["A before B"]),
    "days that overlap": (BUILD + DAYS + " --valid-days 2026-01-01:2026-01-02", ["overlap", "disjoint"]),
    "days in another form": (
        BUILD + DAYS + " --test-days 3/1/2026",
        ["--test-days: expected a day YYYY-MM-DD"],
    ),
    "a header where none is expected": (BUILD + DAYS + " --input {place}/headed", ["header: true"]),
    "no header where one is expected": (
        BUILD + DAYS + " --data {place}/header.yaml",
        ["header and delimiter"],
    ),
    "a column that the log has not": (
        BUILD + DAYS + " --input {place}/headed --data {place}/absent.yaml",
        ["expected columns J, found only label, I, C", "check the names"],
    ),
    "another name for the label": (
        BUILD + DAYS + " --input {place}/headed --data {place}/clicked.yaml",
        ["expected columns clicked, found only label, I, C"],
    ),
    "a wrong delimiter": (
        BUILD + DAYS + " --data {place}/comma.yaml",
        ["72 of 72 rows do not fit", "check delimiter and columns"],
    ),
    "a label that is not 0 or 1": (BUILD + DAYS + " --input {place}/rated", ["label", "rows do not fit"]),
    "text for Parquet": (
        BUILD + DAYS + " --data {place}/parquet.yaml",
        ["expected a Parquet file", "check `format`"],
    ),
    "a Parquet column of text for numbers": (
        BUILD + DAYS + " --input {place}/typed --data {place}/parquet.yaml",
        ["rows do not fit", "mend the log or the data YAML"],
    ),
    "an output that is there": (
        BUILD + DAYS + " --output {dataset}",
        ["a finished dataset is there already"],
    ),
    "an output full of other files": (BUILD + DAYS + " --output {place}", ["choose another --output"]),
    "an output below a file": (BUILD + DAYS + " --output {place}/data.yaml/out", ["cannot be written"]),
    "a dataset to grow that is none": (BUILD + DAYS + " --grow {place}/log", ["{place}/log"]),
    "more workers than slots": (TRAIN + "--num-workers 9", ["found 2 on local[2]", "give fewer workers"]),
    "a column to keep that is not there": (SCORE + "--keep city", ["city"]),
}  # fmt: skip

COLUMNS = {"fields": [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}]}
MODEL = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [2]}}
TRAINING = {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.01}


class OtherServer(BaseHTTPRequestHandler):
    """Something else that took MLflow's port."""

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
def place(tmp_path_factory):
    """A folder of a newcomer's files, few of them as they should be."""
    place = tmp_path_factory.mktemp("first hour")
    write_days(place / "log")
    write_days(place / "headed", head=["label\tI\tC"])
    write_days(place / "rated", label=lambda n: n % 5)
    for day in (1, 2, 3):
        (place / "empty" / f"ds=2026-01-0{day}").mkdir(parents=True)
        (place / "empty" / f"ds=2026-01-0{day}" / "part.tsv").touch()
        (place / "typed" / f"ds=2026-01-0{day}").mkdir(parents=True)
        rows = pa.table({"label": [0, 1], "I": ["few", "many"], "C": ["a", "b"]})
        pq.write_table(rows, place / "typed" / f"ds=2026-01-0{day}" / "part.parquet")
    text = COLUMNS | {"format": "delimited"}
    named = text | {"columns": ["label", "I", "C"]}
    write_yaml(place / "data.yaml", named)
    write_yaml(place / "comma.yaml", named | {"delimiter": ","})
    write_yaml(place / "header.yaml", text | {"header": True})
    write_yaml(place / "absent.yaml", text | {"header": True, "fields": [{"kind": "count", "names": ["J"]}]})
    write_yaml(place / "clicked.yaml", text | {"header": True, "label": "clicked"})
    write_yaml(place / "parquet.yaml", COLUMNS | {"format": "parquet"})
    write_yaml(place / "model.yaml", MODEL | {"training": TRAINING})
    write_yaml(place / "typo.yaml", MODEL | {"training": TRAINING, "embeding_dim": 8})
    write_yaml(place / "gbdt.yaml", MODEL | {"training": TRAINING, "model": "gbdt"})
    (place / "syntax.yaml").write_text("format: delimited\ncolumns: [label\nfields: x\n")
    (place / "empty.yaml").touch()
    return place


@pytest.fixture
def champion(save_model, register, store):
    """A registered model of the dataset's fields."""
    name = "first_hour_champion"
    if not store.client.search_registered_models(f"name = '{name}'"):
        register(save_model(), name)
        store.client.set_registered_model_alias(name, "champion", "1")
    return f"models:/{name}@champion"


@pytest.fixture
def stranger(save_model, register):
    """A registered model of other fields than the dataset's."""
    return f"models:/first_hour_stranger/{register(save_model(with_i=False), 'first_hour_stranger')}"


@pytest.fixture(scope="module")
def servers():
    """{closed}: an address where nobody listens, {other}: where another server than MLflow does."""
    servers = [HTTPServer(("127.0.0.1", 0), OtherServer) for _ in range(2)]
    closed, other = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    servers[0].server_close()
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    yield {"closed": closed, "other": other}
    servers[1].shutdown()
    servers[1].server_close()


@pytest.fixture
def words(place, servers, request):
    """words(command) -> the job and its flags, the names in {} filled in."""

    def filled(command):
        fixtures = {"champion": "champion", "stranger": "stranger", "dataset": "small_dataset"}
        needed = {name: fixture for name, fixture in fixtures.items() if f"{{{name}}}" in command}
        values = {name: shlex.quote(str(request.getfixturevalue(needed[name]))) for name in needed}
        return shlex.split(command.format(place=shlex.quote(str(place)), **servers, **values))

    return filled


@pytest.fixture
def by_itself(profile_path):
    """by_itself(job, flags) -> the one line it ends with, in a session of its own rather than the tests'."""

    def run(job, *flags, profile=profile_path, status=2):
        flags = ["--profile", str(profile), *map(str, flags)]  # one of the flags' own wins
        done = CliRunner().invoke(getattr(importlib.import_module(f"deepfm.cli.{job}"), job), flags)
        assert (done.exit_code, done.stdout) == (status, ""), done.exception
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    return run


def check(line, phrases, place):
    assert [phrase for phrase in phrases if phrase.format(place=place) not in line] == [], line
    assert len(line) < 1000


@pytest.mark.parametrize("case", [*AT_ONCE, *UNREACHABLE])
def test_an_error_is_reported_in_one_line_before_spark_starts(words, by_itself, place, case, monkeypatch):
    command, phrases = (AT_ONCE | UNREACHABLE)[case]
    job, *flags = words(command)
    monkeypatch.setattr(session, "SparkConf", lambda: pytest.fail("a session was asked for"))
    check(by_itself(job, *flags, status=1 if case in UNREACHABLE else 2), phrases, place)


@pytest.mark.parametrize("case", WITH_SPARK)
def test_an_error_in_the_log_is_reported_in_one_line(words, run_job, place, case):
    command, phrases = WITH_SPARK[case]
    check(run_job(*words(command)).mistake, phrases, place)


@pytest.mark.parametrize("command", [*(f"jobs/{job}.py" for job in JOBS), "-m deepfm doctor"])
def test_an_environment_that_is_not_activated_is_reported(command):
    """-S: a Python without the environment's packages, whatever the machine's own has."""
    command = [sys.executable, "-S", *command.split(), "--help"]
    # What the tests gave Python for a path would give it the packages back.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    check(done.stderr.removeprefix("error: "), ["has no click", ".venv/bin/activate", "make env"], "")
    assert done.stderr.count("\n") == 1


# What Spark would be started on


@pytest.fixture
def build_by_itself(place, by_itself, profile_path, tmp_path, monkeypatch):
    """build_features.py with Spark properties of its own -> the line it ends with."""
    # Those of the tests' session, where one is open, are no part of it.
    monkeypatch.setattr(session, "SparkConf", lambda: SparkConf(loadDefaults=False))

    def run(**properties):
        profile = yaml.safe_load(profile_path.read_text())
        profile["spark"] |= properties
        write_yaml(tmp_path / "profile.yaml", profile)
        flags = ["--data", place / "data.yaml", "--input", place / "log", "--output", tmp_path / "out"]
        return by_itself("build_features", *flags, profile=tmp_path / "profile.yaml")

    return run


def test_a_missing_java_is_reported(build_by_itself, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    line = build_by_itself()
    assert "needs Java 17 or newer, but found none on the PATH: apt-get install openjdk-17" in line


def test_an_old_java_is_reported(build_by_itself, monkeypatch, tmp_path):
    (tmp_path / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert f"but {tmp_path}/java is Java 11: apt-get install" in build_by_itself()


def test_a_java_home_without_java_is_reported(build_by_itself, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert "has no bin/java" in build_by_itself()


@pytest.mark.skipif(shutil.which("java") is None, reason="comes before the look at the master")
def test_an_unreachable_master_is_reported(build_by_itself, servers):
    master = servers["closed"].replace("http", "spark")
    line = build_by_itself(**{"spark.master": master})
    assert f"{master} does not answer" in line and "change spark.master in the profile" in line


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia/gpus"), reason="there are GPUs here")
def test_missing_gpus_are_reported(build_by_itself):
    line = build_by_itself(**{"spark.task.resource.gpu.amount": 1})
    assert "the profile requests GPUs, this machine has none; remove the spark.*" in line
