"""Jobs with an MLflow server that requires user and password, on PostgreSQL; no secret is stored."""

import base64
import json
import os
import subprocess
import sys
import urllib.request
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import yaml
from servers import ROOT, mlflow_server, postgres

USER, PASSWORD = "daily-writer", "Zk9-not/in any@log"
TOKEN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = [PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), TOKEN, f"{USER}:"]
DAY = "2026-01-03"  # the dataset's last day
MODEL = """
model: deepfm
embedding_dim: 2
deep: {hidden_units: [4]}
training: {batch_size: 8, max_epochs: 2, patience: 2, learning_rate: 0.01}
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(profile_path, tmp_path_factory):
    """A server's address, its database, and a folder with a profile without credentials."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "model.yaml").write_text(MODEL)
    settings = {"database_uri": f"sqlite:///{folder}/users.db", "admin_username": USER}
    # Without a cache each request hashes the password, which is slow.
    settings |= {"default_permission": "READ", "auth_cache_ttl_seconds": 60}
    lines = [f"{key} = {value}\n" for key, value in settings.items()]
    (folder / "auth.ini").write_text("[mlflow]\n" + "".join(lines))
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test",
    }
    flags = ("--app-name", "basic-auth")
    with (
        postgres() as database,
        mlflow_server(folder, store=database, flags=flags, environment=environment) as address,
    ):
        profile = yaml.safe_load(profile_path.read_text())
        profile |= {"mlflow": {"tracking_uri": address, "retry_s": 2}, "work_dir": str(folder / "runs")}
        (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
        yield SimpleNamespace(address=address, folder=folder, database=database)


@pytest.fixture
def credentials(monkeypatch):
    """Set user and password in the environment for one test; None: unset."""

    def set_credentials(user=USER, password=PASSWORD):
        for name, value in (("MLFLOW_TRACKING_USERNAME", user), ("MLFLOW_TRACKING_PASSWORD", password)):
            monkeypatch.setenv(name, value or "")
            if value is None:
                monkeypatch.delenv(name)

    return set_credentials


@pytest.fixture(scope="module")
def train(server, small_dataset):
    """Run train.py in a separate process, as a scheduler does."""

    def run(**environment):
        flags = ["--dataset", small_dataset, "--model", server.folder / "model.yaml", "--num-workers", "0"]
        flags += ["--name", "secured", "--profile", server.folder / "profile.yaml"]
        return subprocess.run(
            [sys.executable, "jobs/train.py", *map(str, flags)],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=580,
        )

    return run


@pytest.fixture(scope="module")
def trained(train):
    done = train(MLFLOW_TRACKING_USERNAME=USER, MLFLOW_TRACKING_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    return done


def score(run_job, server, small_dataset, *flags):
    paths = ["--input", small_dataset.parent / "log", "--output", server.folder / "scores"]
    model = ["--model-uri", "models:/secured@champion", "--profile", server.folder / "profile.yaml"]
    return run_job("score", "--date", DAY, *model, *paths, "--overwrite", *flags)


def secrets_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def stored_texts(server) -> dict[str, str]:
    """Return everything that the server and the jobs have stored, by location."""
    dump = subprocess.run(
        ["pg_dump", server.database.replace("+psycopg2", "")], capture_output=True, text=True, check=True
    ).stdout
    assert "secured" in dump and "train_logloss" in dump
    folders = [server.folder / name for name in ("files", "scores", "runs")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert {"model_card.md", "_provenance.json", "environment.txt", "verdict.json"} <= {f.name for f in files}
    texts = {str(path): path.read_bytes().decode("latin-1") for path in files}
    return texts | {"database": dump, "log": (server.folder / "server.log").read_text()}


def test_every_job_succeeds_and_no_secret_is_stored(
    server, trained, run_job, small_dataset, credentials, caplog
):
    caplog.set_level("DEBUG")
    credentials()
    promoted = run_job("promote", "--name", "secured", "--profile", server.folder / "profile.yaml")
    assert promoted.summary["promoted"]
    scored = score(run_job, server, small_dataset)
    assert (scored.summary["rows_scored"], scored.summary["version"]) == (24, "1")
    # The same with the credentials in the URI instead of the environment.
    credentials(None, None)
    host = server.address.removeprefix("http://")
    uri = f"http://{USER}:{quote(PASSWORD, safe='')}@{host}"
    rescored = score(run_job, server, small_dataset, "--tracking-uri", uri)
    assert rescored.summary["mean_probability"] == scored.summary["mean_probability"]
    outputs = {
        f"job {n}": f"{job.stdout}{job.stderr}" for n, job in enumerate((trained, promoted, scored, rescored))
    }
    leaks = {location: secrets_in(text) for location, text in (stored_texts(server) | outputs).items()}
    leaks["jobs' logs"] = secrets_in(caplog.text)
    assert {location: secrets for location, secrets in leaks.items() if secrets} == {}


@pytest.mark.parametrize("user", [USER, "nobody", None])
def test_a_wrong_password_is_reported_in_one_line(server, trained, run_job, credentials, user):
    credentials(user, "Hm3-wrong" if user else None)
    done = run_job("promote", "--name", "secured", "--profile", server.folder / "profile.yaml")
    assert f"{server.address}: the MLflow server refuses this user" in done.mistake
    assert "MLFLOW_TRACKING_PASSWORD" in done.mistake and "Hm3" not in done.stderr


@pytest.mark.parametrize("address", ["{scheme}:// u:Hm3-wrong@{host}", "ftp://u:Hm3-wrong@{host}"])
def test_an_invalid_uri_is_reported_without_its_password(server, run_job, credentials, address):
    credentials(None, None)
    host = server.address.removeprefix("http://")
    done = run_job("promote", "--name", "secured", "--tracking-uri", address.format(scheme="http", host=host))
    assert host in done.mistake and "Hm3" not in done.stderr


def test_a_user_without_write_permission_is_reported_in_one_line(server, trained, train):
    content = json.dumps({"username": "reader", "password": "Rd7-only-reads"}).encode()
    headers = {"Authorization": f"Basic {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.address}/api/2.0/mlflow/users/create", content, headers)
    urllib.request.urlopen(request, timeout=60).close()
    done = train(MLFLOW_TRACKING_USERNAME="reader", MLFLOW_TRACKING_PASSWORD="Rd7-only-reads")
    (error_line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, done.stdout) == (2, "")
    assert "ask its administrator for the permission" in error_line and "Traceback" not in done.stderr
