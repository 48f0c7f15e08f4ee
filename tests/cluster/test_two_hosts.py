"""Training on two hosts with separate networks, names and addresses; and loss of a network link."""

import re
import subprocess
import time

import pytest
from hosts import missing_requirement, network
from small_jobs import finish, weights, write_settings
from standalone import ROOT, UNPACKED, Cluster, error_line

pytestmark = pytest.mark.cluster
SUBMIT, WORKERS = "submit", ("worker-1", "worker-2")
#: The package is installed on all hosts; test_standalone.py tests the packed environment.
INSTALLED = ("--conf", f"spark.pyspark.python={UNPACKED}/bin/python")
TRAINING = {"batch_size": 16, "max_epochs": 2, "learning_rate": 0.001, "keep": "last"}


@pytest.fixture(scope="module")
def hosts_network(tmp_path_factory):
    """One host that submits and two workers."""
    if reason := missing_requirement():
        pytest.skip(reason)
    with network(tmp_path_factory.mktemp("hosts"), [SUBMIT, *WORKERS]) as built:
        yield built


@pytest.fixture(scope="module")
def trainings(hosts_network, local_dataset, tmp_path_factory):
    """Function: start train.py on both workers as a process."""
    folder = tmp_path_factory.mktemp("trainings")
    uri = f"sqlite:///{folder}/mlflow.db"
    profile, model = write_settings(folder, uri, TRAINING, checkpoint_every_n_steps=10)
    files = (f"--dataset={local_dataset}", f"--model={model}", f"--profile={profile}", "--name=ctr")
    hosts = [hosts_network.host(name) for name in WORKERS]
    with Cluster(tmp_path_factory.mktemp("cluster"), hosts_network.host(SUBMIT), hosts) as cluster:

        def start(*flags) -> subprocess.Popen:
            return cluster.submit(ROOT / "jobs/train.py", *files, *flags, spark=INSTALLED)

        yield start, folder, uri


def wait_for_the_second_epoch(process, runs):
    """Wait for a checkpoint in the middle of the second epoch -> run id."""
    previous = {path.name for path in runs.glob("*")}
    while process.poll() is None:
        for path in runs.glob("*/weights-00001-*"):
            if path.parent.name not in previous and "-000000000." not in path.name:
                return path.parent.name
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint in the second epoch: {process.communicate()}")


def test_a_lost_link_ends_the_training_within_a_minute_and_resume_finishes_it(trainings, hosts_network):
    start, folder, uri = trainings
    uninterrupted = start("--num-workers=2")
    output, _ = uninterrupted.communicate(timeout=600)
    assert uninterrupted.returncode == 0, output
    assert set(re.findall(r"rank \d: host (\S+), cpu", output)) == set(WORKERS), output

    process = start("--num-workers=2")
    run_id = wait_for_the_second_epoch(process, folder / "runs")
    hosts_network.disconnect(WORKERS[1])
    try:
        disconnected_at = time.monotonic()
        output, _ = process.communicate(timeout=300)
        seconds = time.monotonic() - disconnected_at
    finally:
        hosts_network.reconnect(WORKERS[1])
    print(f"the error came {seconds:.0f} s after the disconnect\n{output}")
    assert process.returncode == 1
    message = error_line(output)
    assert re.match(r"rank \d on worker-\d.* lost the other workers; the driver cannot reach ", message)
    assert "10.77.0.3" in message and "10.77.0.2" not in message
    assert message.endswith(f"; resume with the same command and --resume {run_id}")
    assert seconds < 60

    resumed = finish(start("--num-workers=2", f"--resume={run_id}"))
    assert resumed["run_id"] == run_id
    assert weights(uri, "ctr", resumed["version"]) == weights(uri, "ctr", "1")
