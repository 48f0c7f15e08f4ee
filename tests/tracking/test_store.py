"""Runs in MLflow, resolution of model URIs, and stores that cannot be used."""

import http.server
import os
import re
import socket
import sqlite3
import threading
from pathlib import Path

import mlflow
import pytest
import torch
from sqlalchemy.exc import OperationalError

from deepfm.errors import UserError
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings
from deepfm.tracking.connection import connect
from deepfm.tracking.run import DatasetMetrics, Run, flattened, logged_model_id
from deepfm.tracking.store import MlflowStore
from deepfm.tracking.uri import TrackingUnavailableError

ROOT = Path(__file__).resolve().parents[2]
MODEL = """
model: deepfm
embedding_dim: 2
deep: {hidden_units: [4]}
training: {batch_size: 8, max_epochs: 3, patience: 3, learning_rate: 0.01}
"""


@pytest.fixture(scope="module")
def trained(run_job, small_dataset, tmp_path_factory):
    """(summary of train.py, its dataset's folder): three epochs."""
    model = tmp_path_factory.mktemp("trained") / "model.yaml"
    model.write_text(MODEL)
    flags = ["--model", model, "--num-workers=0", "--name=tracked", "--experiment=tracking"]
    return run_job("train", "--dataset", small_dataset, *flags).summary, small_dataset


@pytest.fixture
def run(store, trained):
    return store.client.get_run(trained[0]["run_id"])


def artifact_text(run, name: str) -> str:
    return mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}")


# --- a training's run


def test_a_training_is_one_finished_run_of_its_experiment(store, run, trained):
    experiment = store.client.get_experiment_by_name("tracking").experiment_id
    (only,) = store.client.search_runs([experiment])
    assert only.info.run_id == trained[0]["run_id"]
    assert only.info.status == "FINISHED"


def test_an_experiment_is_shown_as_model_development(store, trained):
    tags = store.client.get_experiment_by_name("tracking").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_run_contains_the_settings(run):
    assert run.data.params["embedding_dim"] == "2"
    assert run.data.params["deep.hidden_units"] == "(4,)"
    assert run.data.params["training.learning_rate"] == "0.01"
    assert run.data.params["training.seed"] == "1"  # defaults are logged too
    assert run.data.params["num_workers"] == "0"


def test_a_run_contains_a_curve_point_for_every_epoch(store, run):
    for curve in ("train_logloss", "valid_logloss", "valid_auc"):
        points = store.client.get_metric_history(run.info.run_id, curve)
        assert [point.step for point in points] == [1, 2, 3]


def test_a_run_contains_the_metrics_of_the_best_epoch(run, trained):
    summary, metrics = trained[0], run.data.metrics
    assert metrics["best_test_auc"] == summary["test_auc"]
    assert metrics["best_test_logloss"] == summary["test_logloss"]
    assert metrics["best_valid_logloss"] == summary["valid_logloss"]
    assert metrics["best_epoch"] in (1, 2, 3)


def test_a_run_contains_the_manifest_of_the_dataset(run, trained):
    expected = (trained[1] / "manifest.json").read_text()
    assert artifact_text(run, "dataset_manifest.json").split() == expected.split()


def test_a_run_contains_commit_and_environment(run):
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?|unknown", run.data.tags["git_commit"])
    assert f"torch=={torch.__version__}" in artifact_text(run, "environment.txt").splitlines()


def test_run_and_version_have_a_description(store, run, trained):
    assert run.info.run_name == "deepfm, 2026-01-01"
    version = store.resolve(f"models:/tracked/{trained[0]['version']}")
    assert f"AUC {trained[0]['test_auc']:.4f}" in version.description
    assert "on 24 test rows of 2026-01-03." in version.description
    assert run.data.tags["mlflow.note.content"].startswith(version.description)
    assert "`champion` scores new days" in store.client.get_registered_model("tracked").description


def test_a_version_refers_to_its_run_and_dataset(store, run, trained):
    version = store.resolve(f"models:/tracked/{trained[0]['version']}")
    assert version.run_id == run.info.run_id
    assert version.tags["dataset"] == run.data.params["dataset.digest"]
    assert float(version.tags["auc"]) == pytest.approx(trained[0]["test_auc"], abs=1e-6)


def test_the_logged_model_has_the_final_metrics_of_each_dataset(store, run, trained):
    version = store.resolve(f"models:/tracked/{trained[0]['version']}")
    metrics = store.client.get_logged_model(logged_model_id(version)).metrics
    # MLflow itself adds the metrics of the run, without dataset.
    metrics = [one for one in metrics if one.dataset_name]
    by_dataset = {(one.dataset_name, one.key): one.value for one in metrics}
    assert by_dataset["test", "best_test_auc"] == trained[0]["test_auc"]
    assert by_dataset["valid", "best_valid_logloss"] == trained[0]["valid_logloss"]
    assert {one.dataset_digest for one in metrics} == {run.data.params["dataset.digest"]}


def test_metrics_that_a_server_does_not_take_for_a_model_are_a_warning(store, caplog):
    with store.run("no-such-model") as run:
        run.log_model_metrics("m-absent", [DatasetMetrics("d" * 600, "1", {"auc": 0.5})])
    assert "metrics are not on the page of model m-absent: " in caplog.text
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_training_leaves_no_scratch(profile_path, trained):
    assert not list((profile_path.parent / "runs").glob("*"))  # the folder itself may be gone


def test_a_database_that_is_locked_while_it_is_opened_is_unavailable(monkeypatch, tmp_path):
    def search(*_, **__):
        raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(mlflow.MlflowClient, "search_experiments", search)
    with pytest.raises(TrackingUnavailableError, match="database is locked"):
        MlflowStore(f"sqlite:///{tmp_path}/mlflow.db", retry_s=0.1)


def test_a_run_that_raises_is_failed(store):
    with pytest.raises(RuntimeError), store.run("failing") as run:
        raise RuntimeError("lost")
    assert store.client.get_run(run.run_id).info.status == "FAILED"


def test_a_deleted_experiment_is_reported(store):
    store.client.delete_experiment(store.client.create_experiment("gone"))
    with (
        pytest.raises(UserError, match="gone was deleted; restore it with `mlflow exp"),
        store.run("gone"),
    ):
        pass


def test_an_unlogged_curve_point_does_not_stop_a_training(store):
    class UnreachableClient:
        @staticmethod
        def log_batch(run_id, metrics):
            raise mlflow.MlflowException("connection refused")

    Run(UnreachableClient, "run").log_epoch({"epoch": 1, "train_logloss": 0.5})


def test_nested_settings_are_joined_with_dots():
    assert flattened({"a": {"b": {"c": 1}, "d": (2, 3)}, "e": None}) == {
        "a.b.c": "1",
        "a.d": "(2, 3)",
        "e": "None",
    }


# --- model URIs and names


@pytest.fixture(scope="module")
def numbered(profile_path):
    """A model with eleven versions, the third of them champion."""
    uri = f"sqlite:///{profile_path.parent}/mlflow.db"
    client = MlflowStore(uri).client
    client.create_registered_model("numbered")
    for number in range(11):
        client.create_model_version("numbered", source=f"file:///{number}")
    client.set_registered_model_alias("numbered", "champion", "3")
    return "numbered"


def test_an_alias_is_resolved_to_a_version(store, numbered):
    assert int(store.resolve(f"models:/{numbered}@champion").version) == 3
    assert int(store.resolve(f"models:/{numbered}/11").version) == 11


@pytest.mark.parametrize(
    "uri", ["numbered", "models:/numbered", "models:/@champion", "runs:/1/model", "models:/"]
)
def test_a_uri_of_another_form_is_refused(store, uri):
    with pytest.raises(UserError, match="expected models:/NAME@ALIAS or models:/NAME/VERSION"):
        store.resolve(uri)


@pytest.mark.parametrize(
    "which", ["numbered/12", "numbered/x", "numbered@nobody", "nobody/1", "nobody@champion"]
)
def test_a_model_that_does_not_exist_is_reported(store, numbered, which):
    with pytest.raises(UserError, match=f"models:/{which}: no such model at sqlite"):
        store.resolve(f"models:/{which}")


def test_the_newest_version_is_the_one_with_the_highest_number(store, numbered):
    assert int(store.latest(numbered).version) == 11  # as text, 9 would be larger


@pytest.mark.parametrize("name", ["nobody", "no'body"])
def test_a_model_without_versions_has_no_newest(store, name):
    with pytest.raises(UserError, match="no version of a model no"):
        store.latest(name)


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a@b", "a?b", "a#b", "a%b"])
def test_a_name_that_no_model_can_have_is_refused(store, name):
    with pytest.raises(UserError, match="expected a model's name"):
        store.require_name(name)


def test_a_version_without_files_is_reported(store, numbered, tmp_path):
    with pytest.raises(UserError, match="models:/numbered/3: its files cannot be read"):
        store.download(store.resolve("models:/numbered/3"), str(tmp_path))


# --- stores that cannot be used


def test_a_server_that_does_not_answer_is_unavailable():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(TrackingUnavailableError, match="no MLflow server answers there"):
        MlflowStore(f"http://127.0.0.1:{port}", retry_s=0.1)


def test_a_server_that_does_not_speak_http_is_unavailable():
    def greet():
        connection, _ = listener.accept()
        connection.recv(1024)
        connection.sendall(b"SSH-2.0-server\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        with pytest.raises(TrackingUnavailableError, match="no MLflow server answers there"):
            MlflowStore(f"http://127.0.0.1:{listener.getsockname()[1]}", retry_s=0.1)
        thread.join()


def test_a_server_with_an_internal_error_is_unavailable():
    class FailingHandler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(503)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), FailingHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(TrackingUnavailableError, match="503"):
            MlflowStore(f"http://127.0.0.1:{server.server_port}", retry_s=0.1)
        server.shutdown()


@pytest.mark.parametrize("path", sorted((ROOT / "conf/profile").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_tracking_uri_of_every_profile_is_valid(path, tmp_path, monkeypatch):
    """URIs of other machines do not answer here; an invalid URI would raise another error."""
    monkeypatch.chdir(tmp_path)
    uri = load_settings(str(path), Profile).mlflow.tracking_uri
    try:
        connect(uri, None, retry_s=0.1)
    except (TrackingUnavailableError, UserError) as error:
        assert re.search("no MLflow server answers there|Databricks credential", str(error))  # noqa: PT017


@pytest.mark.parametrize(
    ("location", "expected"), [("s3://bucket/models", "s3://bucket/models/"), ("{}/a b", "file://{}/a%20b/")]
)
def test_artifacts_of_a_local_store_are_in_a_folder_or_at_a_url(tmp_path, location, expected):
    store = MlflowStore(f"sqlite:///{tmp_path}/mlflow.db", location.format(tmp_path))
    experiment = store.client.get_experiment(store._experiment_id("new"))
    assert f"{experiment.artifact_location}/".startswith(expected.format(tmp_path))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://localhost:port", "found no host or an invalid port"),
        ("http://", "found no host or an invalid port"),
        ("ftp://host", "MLflow has no store for ftp"),
        (
            "azureml://west.example/mlflow/v1.0/x",
            "MLflow has no store for azureml; pip install azureml-mlflow",
        ),
        (
            "arn:aws:sagemaker:eu-west-1:1:server/x",
            "MLflow has no store for arn; pip install sagemaker-mlflow",
        ),
        (
            "mysql+pymysql://u:p@127.0.0.1:9/m",
            "mysql.pymysql://127.0.0.1:9/m: the database's driver is missing",
        ),
        ("postgresql+psycopg2://u:p@cret:word/x@db/m", "write special characters of the user"),
        ("databricks://NO_PROFILE", "MLflow cannot use this store"),
        ("mlruns", "maintenance mode"),
    ],
)
def test_a_store_that_cannot_be_used_is_reported_without_its_password(uri, message):
    with pytest.raises(UserError, match=message) as raised:
        MlflowStore(uri, retry_s=0.1)
    assert "u:p@" not in str(raised.value) and "cret:word" not in str(raised.value)


def test_a_database_server_that_does_not_answer_is_unavailable():
    message = r"postgresql.*//127\.0\.0\.1:9/m: .*Connection refused"
    with pytest.raises(TrackingUnavailableError, match=message):
        MlflowStore("postgresql://u:p@127.0.0.1:9/m", retry_s=0.1)


def test_a_relative_database_has_an_absolute_uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = MlflowStore("sqlite:///runs/mlflow.db")
    assert store.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    with pytest.raises(UserError, match=f"no version of a model nobody at sqlite:///{tmp_path}/runs"):
        store.latest("nobody")


def test_the_registry_can_be_another_store(tmp_path):
    store = MlflowStore(f"sqlite:///{tmp_path}/runs.db", registry_uri=f"sqlite:///{tmp_path}/models.db")
    store.client.create_registered_model("m")
    assert MlflowStore(f"sqlite:///{tmp_path}/models.db").client.get_registered_model("m").name == "m"


def test_the_uri_does_not_reach_the_environment(tmp_path, monkeypatch):
    """Later jobs of this process would read it as the user's choice, and it may have a password."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    MlflowStore(f"sqlite:///{tmp_path}/mlflow.db")
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_file_that_is_not_a_database_is_reported(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to have a header of one\n" * 20)
    with pytest.raises(UserError, match="MLflow cannot use this store"):
        MlflowStore(f"sqlite:///{tmp_path}/notes.txt")


def test_a_database_below_a_file_is_reported(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="its folder cannot be created"):
        MlflowStore(f"sqlite:///{tmp_path}/notes.txt/mlflow.db")
