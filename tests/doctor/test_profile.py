"""The doctor compares the requests of a profile with what is available."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deepfm.doctor import profile as profile_checks
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def local():
    return load_settings(ROOT / "conf/profile/local.yaml", Profile)


def with_spark(profile, **properties):
    return profile.model_copy(update={"spark": profile.spark | properties})


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"spark.master": "local"}, 1),
        ({"spark.master": "local[3]"}, 3),
        ({"spark.master": "local[*]"}, 8),
        ({"spark.master": "local[4,2]", "spark.task.cpus": 2}, 2),
        ({"spark.master": "local-cluster[2, 3, 1024]", "spark.task.cpus": 2}, 2),
        ({"spark.master": "yarn", "spark.executor.instances": 5, "spark.executor.cores": 4}, 20),
        ({"spark.master": "spark://host:7077", "spark.cores.max": 6}, 6),
        ({"spark.master": "spark://host:7077"}, None),
    ],
    ids=str,
)
def test_slots_are_computed_from_the_properties(properties, expected):
    assert profile_checks.num_slots(properties, num_cores=8) == expected


@pytest.mark.parametrize(
    ("num_workers", "num_cores", "level"), [(2, 2, "green"), (2, 1, "yellow"), (3, 8, "red")]
)
def test_workers_are_compared_with_slots_and_cores(local, num_workers, num_cores, level):
    assert profile_checks.check_slots(local, num_workers, num_cores).level == level


def test_slots_that_only_the_cluster_knows_are_yellow(local):
    finding = profile_checks.check_slots(with_spark(local, **{"spark.master": "yarn"}), 2, 2)
    assert (finding.level, "train.py --dry-run" in finding.remedy) == ("yellow", True)


def test_a_standalone_master_is_contacted():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        master = f"spark://127.0.0.1:{listener.getsockname()[1]}"
        assert profile_checks.check_master(master).level == "green"
    assert "does not answer" in profile_checks.check_master(master).found
    assert profile_checks.check_master("local[2]").level == "green"


def test_required_memory_is_that_of_the_driver_and_the_workers(local):
    assert profile_checks.required_memory(local, 2) == 5 * 2**30
    assert profile_checks.required_memory(with_spark(local, **{"spark.driver.memory": "512m"}), 0) == 2**29


def test_gpus_are_requested_by_amounts(local):
    assert not profile_checks.requests_gpus(local)
    assert profile_checks.requests_gpus(with_spark(local, **{"spark.task.resource.gpu.amount": 1}))


def test_a_missing_store_is_not_created(tmp_path):
    assert profile_checks.check_mlflow(f"sqlite:///{tmp_path}/new/mlflow.db").level == "green"
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_used_is_red(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but a file of some length")
    broken = f"sqlite:///{tmp_path}/mlflow.db"
    below = f"sqlite:///{tmp_path}/mlflow.db/below/mlflow.db"
    for uri in (broken, below, "ftp://host/mlflow"):
        finding = profile_checks.check_mlflow(uri)
        assert finding.level == "red", uri
        assert "--tracking-uri" in finding.remedy or "chmod" in finding.remedy


def test_an_existing_store_is_green(store):
    assert profile_checks.check_mlflow(store.uri).level == "green"


class NotMlflow(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def test_a_port_without_mlflow_is_reported_without_credentials():
    server = HTTPServer(("127.0.0.1", 0), NotMlflow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    try:
        assert profile_checks.check_mlflow(uri).level == "red"
    finally:
        server.shutdown()
        server.server_close()
    closed = profile_checks.check_mlflow(uri)
    assert (closed.level, "no MLflow server answers there" in closed.found) == ("red", True)
    for password in ("secret", "sec@ret", "sec/ret"):
        finding = profile_checks.check_mlflow(uri.replace("//", f"//name:{password}@"))
        assert "sec" not in finding.found and "ret@" not in finding.found
