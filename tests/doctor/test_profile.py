"""What a profile asks for, beside what answers."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deepfm.doctor import profile as of_profile
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def local():
    return load_settings(ROOT / "conf/profile/local.yaml", Profile)


def with_spark(profile, **properties):
    return profile.model_copy(update={"spark": profile.spark | properties})


@pytest.mark.parametrize(
    ("properties", "num"),
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
def test_slots_follow_from_the_properties(properties, num):
    assert of_profile.num_slots(properties, num_cores=8) == num


@pytest.mark.parametrize(
    ("num_workers", "num_cores", "level"), [(2, 2, "green"), (2, 1, "yellow"), (3, 8, "red")]
)
def test_workers_are_compared_with_slots_and_cores(local, num_workers, num_cores, level):
    assert of_profile.check_slots(local, num_workers, num_cores).level == level


def test_slots_that_only_the_cluster_knows_are_told(local):
    finding = of_profile.check_slots(with_spark(local, **{"spark.master": "yarn"}), 2, 2)
    assert (finding.level, "train.py --dry-run" in finding.remedy) == ("yellow", True)


def test_a_master_is_called():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        master = f"spark://127.0.0.1:{listener.getsockname()[1]}"
        assert of_profile.check_master(master).level == "green"
    assert "does not answer" in of_profile.check_master(master).found
    assert of_profile.check_master("local[2]").level == "green"


def test_memory_is_that_of_the_driver_and_the_workers(local):
    assert of_profile.memory_wanted(local, 2) == 5 * 2**30
    assert of_profile.memory_wanted(with_spark(local, **{"spark.driver.memory": "512m"}), 0) == 2**29


def test_gpus_are_asked_for_by_amounts(local):
    assert not of_profile.wants_gpus(local)
    assert of_profile.wants_gpus(with_spark(local, **{"spark.task.resource.gpu.amount": 1}))


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path):
    assert of_profile.check_mlflow(f"sqlite:///{tmp_path}/new/mlflow.db").level == "green"
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database at all, but a file of some length")
    broken = f"sqlite:///{tmp_path}/mlflow.db"
    below = f"sqlite:///{tmp_path}/mlflow.db/below/mlflow.db"
    for uri in (broken, below, "ftp://host/mlflow"):
        finding = of_profile.check_mlflow(uri)
        assert finding.level == "red", uri
        assert "mlflow server" in finding.remedy or "chmod" in finding.remedy


def test_a_store_that_is_there_is_well(store):
    assert of_profile.check_mlflow(store.uri).level == "green"


class NotMlflow(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def test_a_port_where_no_or_another_server_answers_is_told_without_credentials():
    server = HTTPServer(("127.0.0.1", 0), NotMlflow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    try:
        assert of_profile.check_mlflow(uri).level == "red"
    finally:
        server.shutdown()
        server.server_close()
    closed = of_profile.check_mlflow(uri)
    assert (closed.level, "no MLflow server answers there" in closed.found) == ("red", True)
    for password in ("secret", "sec@ret", "sec/ret"):
        told = of_profile.check_mlflow(uri.replace("//", f"//name:{password}@"))
        assert "sec" not in told.found and "ret@" not in told.found
