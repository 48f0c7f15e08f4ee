"""All jobs by spark-submit on a standalone cluster, with the packed environment and authentication."""

import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from small_jobs import DAYS, TRAINING, finish, record_arguments, write_settings
from standalone import LOOPBACK, ROOT, SPARK_HOME, free_port, stop

from deepfm.dataset.manifest import read_manifest
from deepfm.synthetic.click_log import RAW_SCHEMA

pytestmark = pytest.mark.cluster

#: Criteo's rows have no key column, so all columns are the key.
KEY = ",".join(RAW_SCHEMA.names[1:])
#: Prints the Python environment of executors; run by spark-submit like a job.
PROBE = """
import json, os
os.environ["PYSPARK_PYTHON"] = "./environment/bin/python"
from pyspark.sql import SparkSession
def environment(_):
    import sys, deepfm, torch
    yield [os.getcwd(), sys.path, deepfm.__file__, torch.__file__]
context = SparkSession.builder.getOrCreate().sparkContext
print(json.dumps(context.range(0, numSlices=2).mapPartitions(environment).collect()))
"""


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory):
    """URI of an MLflow server with SQLite and a folder, for the tests of this file."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port(LOOPBACK)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        stop([server])


def wait_until_healthy(url, log):
    for _ in range(240):
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def pipeline(loopback_cluster, mlflow_uri, log, tmp_path_factory):
    """Run each job once -> ({job: summary}, output folder, command lines of all processes)."""
    folder = tmp_path_factory.mktemp("pipeline")
    profile, model = write_settings(folder, mlflow_uri, TRAINING)
    dataset, scores = folder / "dataset", folder / "scores"
    day_flags, key_flags = ("--date=2026-01-05", f"--input={log}"), (f"--keep={KEY}", f"--key={KEY}")
    flags = {
        "build_features": ("--data=conf/data/criteo.yaml", f"--input={log}", f"--output={dataset}", *DAYS),
        "train": (f"--dataset={dataset}", f"--model={model}", "--num-workers=2", "--name=ctr"),
        "promote": ("--name=ctr",),
        "score": (*day_flags, "--model-uri=models:/ctr@champion", f"--output={scores}", *key_flags),
        "evaluate": (*day_flags, f"--scores={scores}", f"--key={KEY}"),
    }
    summaries = {}
    with record_arguments() as arguments:
        for job, words in flags.items():
            submitted = loopback_cluster.submit(ROOT / f"jobs/{job}.py", *words, f"--profile={profile}")
            summaries[job] = finish(submitted)
    return summaries, folder, arguments


def test_all_jobs_run_on_the_cluster(pipeline):
    summaries, folder, _ = pipeline
    assert summaries["build_features"]["rows_train"] == 4000
    assert (summaries["train"]["num_workers"], summaries["train"]["version"]) == (2, "1")
    assert summaries["promote"]["promoted"]
    assert summaries["score"]["rows_scored"] == 2000
    assert list((folder / "scores/ds=2026-01-05").glob("part-*.parquet"))
    assert 0 < summaries["evaluate"]["auc"] < 1


def test_the_cluster_builds_the_same_dataset_as_local_mode(pipeline, local_dataset):
    _, folder, _ = pipeline
    local, remote = (read_manifest(f"file://{path}") for path in (local_dataset, folder / "dataset"))
    assert (local.digest, local.vocabulary) == (remote.digest, remote.vocabulary)
    for name in ("vocabulary.parquet", "vocabulary.json"):
        assert (local_dataset / name).read_bytes() == (folder / "dataset" / name).read_bytes()


def test_workers_run_the_packed_python_and_no_command_line_contains_the_secret(pipeline, loopback_cluster):
    _, _, arguments = pipeline
    workers = {line.split()[0] for line in arguments if "horovod.spark.task.gloo_exec_fn" in line}
    assert workers - {"env", "/bin/sh", "sh", "bash", "/bin/bash"} == {"./environment/bin/python"}
    assert any("CoarseGrainedExecutorBackend" in line for line in arguments)
    assert not any(loopback_cluster.secret in line for line in arguments)


@pytest.mark.short
def test_a_job_runs_with_the_packed_environment(loopback_cluster, log, tmp_path):
    flags = ("--data=conf/data/criteo.yaml", f"--input={log}", f"--output={tmp_path}/dataset", *DAYS)
    profile = "--profile=conf/profile/standalone.yaml"
    summary = finish(loopback_cluster.submit(ROOT / "jobs/build_features.py", *flags, profile))
    assert (
        summary["rows_train"] == read_manifest(f"file://{tmp_path}/dataset").splits["train"].num_rows == 4000
    )


def test_executors_import_the_package_from_the_archive(loopback_cluster, tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    for folder, path, *modules in finish(loopback_cluster.submit(tmp_path / "probe.py")):
        assert all(Path(folder, module).is_relative_to(f"{folder}/environment") for module in modules)
        # The Python files of the executors' Spark may also be in this checkout.
        other_entries = {entry for entry in path if str(ROOT) in entry and str(SPARK_HOME) not in entry}
        assert other_entries == set()


@pytest.mark.short
def test_a_job_with_another_secret_fails_with_one_line_and_writes_nothing(loopback_cluster, log, tmp_path):
    output = tmp_path / "dataset"
    flags = ("--data=conf/data/criteo.yaml", f"--input={log}", f"--output={output}", *DAYS)
    profile, wrong_secret = "--profile=conf/profile/standalone.yaml", "spark.authenticate.secret=another"
    job = ROOT / "jobs/build_features.py"
    submitted = loopback_cluster.submit(job, *flags, profile, spark=("--conf", wrong_secret))
    output_text, _ = submitted.communicate(timeout=300)
    assert submitted.returncode == 2, output_text
    (line,) = [line for line in output_text.splitlines() if line.startswith("error: ")]
    assert f"{loopback_cluster.url} refused this job; check that it has" in line
    assert "spark.authenticate.secret" in line and "\tat " not in output_text
    assert not output.exists()
