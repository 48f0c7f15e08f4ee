"""Training across two hosts, each with its own network, name and address; and what a cut cable does."""

import re
import subprocess
import time

import pytest
from hosts import network, obstacle
from small_jobs import finish, weights, write_settings
from standalone import ROOT, UNPACKED, Cluster, without_stack_trace

pytestmark = pytest.mark.cluster
SUBMIT, WORKERS = "submit", ("worker-1", "worker-2")
#: The package is on every host already; that it also travels is for test_standalone.py.
INSTALLED = ("--conf", f"spark.pyspark.python={UNPACKED}/bin/python")
TRAINING = {"batch_size": 16, "max_epochs": 2, "learning_rate": 0.001, "keep": "last"}


@pytest.fixture(scope="module")
def cabling(tmp_path_factory):
    """A host that submits and two that work."""
    if reason := obstacle():
        pytest.skip(reason)
    with network(tmp_path_factory.mktemp("hosts"), [SUBMIT, *WORKERS]) as built:
        yield built


@pytest.fixture(scope="module")
def trainings(cabling, local_dataset, tmp_path_factory):
    """train.py across both workers, as processes."""
    folder = tmp_path_factory.mktemp("trainings")
    uri = f"sqlite:///{folder}/mlflow.db"
    profile, model = write_settings(folder, uri, TRAINING, checkpoint_every_n_steps=10)
    files = (f"--dataset={local_dataset}", f"--model={model}", f"--profile={profile}", "--name=ctr")
    hosts = [cabling.host(name) for name in WORKERS]
    with Cluster(tmp_path_factory.mktemp("cluster"), cabling.host(SUBMIT), hosts) as cluster:

        def start(*flags) -> subprocess.Popen:
            return cluster.submit(ROOT / "jobs/train.py", *files, *flags, spark=INSTALLED)

        yield start, folder, uri


def wait_for_the_second_epoch(process, runs):
    """Until there is a checkpoint in its middle -> the run's id."""
    seen = {path.name for path in runs.glob("*")}
    while process.poll() is None:
        for path in runs.glob("*/weights-00001-*"):
            if path.parent.name not in seen and "-000000000." not in path.name:
                return path.parent.name
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint in the second epoch: {process.communicate()}")


def test_a_cut_cable_ends_the_training_within_a_minute_and_resume_finishes_it(trainings, cabling):
    start, folder, uri = trainings
    undisturbed = start("--num-workers=2")
    output, _ = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, output
    assert set(re.findall(r"rank \d: host (\S+), cpu", output)) == set(WORKERS), output

    process = start("--num-workers=2")
    run_id = wait_for_the_second_epoch(process, folder / "runs")
    cabling.pull_cable(WORKERS[1])
    try:
        cut_at = time.monotonic()
        output, _ = process.communicate(timeout=300)
        seconds = time.monotonic() - cut_at
    finally:
        cabling.plug_cable(WORKERS[1])
    print(f"the error came {seconds:.0f} s after the cut\n{output}")
    assert process.returncode == 1
    told = without_stack_trace(output)
    assert re.match(r"rank \d on worker-\d.* lost the other workers; no answer to the driver from ", told)
    assert "10.77.0.3" in told and "10.77.0.2" not in told
    assert told.endswith(f"; the same command with --resume {run_id} goes on")
    assert seconds < 60

    resumed = finish(start("--num-workers=2", f"--resume={run_id}"))
    assert resumed["run_id"] == run_id
    assert weights(uri, "ctr", resumed["version"]) == weights(uri, "ctr", "1")
