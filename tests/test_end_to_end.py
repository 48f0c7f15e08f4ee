"""The whole pipeline through its jobs: click log, features, training, registry, gate, daily scoring."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from servers import mlflow_server

from deepfm.tracking.store import MlflowStore

ROOT = Path(__file__).resolve().parents[1]
DAY = "2026-01-08"
# Every job starts its own Java here, as it does for a user; the fast tests run jobs in one process.
pytestmark = pytest.mark.slow
SMALL_MODEL = """
model: deepfm
embedding_dim: 4
deep: {hidden_units: [16]}
training: {batch_size: 64, max_epochs: 2, patience: 2, learning_rate: 0.005}
"""


def run(*command) -> subprocess.CompletedProcess:
    """Run a command in the project folder and its activated environment, as a user or a scheduler does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"
    command = [str(part) for part in command]
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=280)


def submit(job: str, *flags) -> dict:
    """Run a job with spark-submit and return its summary."""
    # An optimizing compiler does not pay off for queries over a few rows.
    java = "spark.driver.extraJavaOptions=-XX:+UseParallelGC -XX:TieredStopAtLevel=1"
    done = run("spark-submit", "--conf", java, f"jobs/{job}.py", *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, profile_path):
    """Summaries of all jobs on a small synthetic log, run by spark-submit; training has two workers."""
    folder = tmp_path_factory.mktemp("pipeline")
    size = ["--days", 8, "--rows-per-day", 2000, "--seed", 1]
    assert run(sys.executable, "-m", "deepfm.synthetic", *size, "--output", folder / "log").returncode == 0
    (folder / "model.yaml").write_text(SMALL_MODEL)
    where = ["--profile", profile_path]
    days = [
        "--train-days",
        "2026-01-01:2026-01-05",
        "--valid-days",
        "2026-01-06",
        "--test-days",
        "2026-01-07",
    ]
    log, dataset = folder / "log", folder / "dataset"
    features = submit(
        "build_features",
        *("--data", "conf/data/criteo.yaml", "--input", log, "--output", dataset, *days, *where),
    )
    trained = submit(
        "train",
        *("--dataset", dataset, "--model", folder / "model.yaml", "--num-workers", 2),
        *("--name", "pipeline", *where),
    )
    promoted = submit("promote", "--name", "pipeline", *where)
    scored = submit(
        "score",
        *("--date", DAY, "--model-uri", "models:/pipeline@champion", "--input", log),
        *("--output", folder / "scores", "--keep", ",".join(raw_columns()), *where),
    )
    return SimpleNamespace(
        folder=folder, features=features, trained=trained, promoted=promoted, scored=scored
    )


def raw_columns() -> list[str]:
    return yaml.safe_load((ROOT / "conf/data/criteo.yaml").read_text())["columns"][1:]


def published(pipeline) -> pd.DataFrame:
    return pd.read_parquet(pipeline.folder / "scores" / f"ds={DAY}")


def test_features_account_for_every_row(pipeline):
    features = pipeline.features
    rows = [features[f"rows_{which}"] for which in ("read", "bad", "train", "valid", "test")]
    assert rows == [14000, 0, 10000, 2000, 2000]  # the eighth day is scored, and not read
    assert features["num_fields"] == 39
    assert features["dataset"] == f"file://{pipeline.folder}/dataset"


def test_two_workers_train_a_useful_model(pipeline):
    trained = pipeline.trained
    assert (trained["num_workers"], trained["epochs"], trained["name"]) == (2, 2, "pipeline")
    assert trained["test_auc"] > 0.55
    assert trained["valid_logloss"] < 0.65


def test_two_workers_log_one_run(pipeline, store):
    experiment = store.client.get_experiment_by_name("pipeline").experiment_id
    (only,) = store.client.search_runs([experiment])
    assert (only.info.run_id, only.info.status) == (pipeline.trained["run_id"], "FINISHED")
    points = store.client.get_metric_history(only.info.run_id, "valid_auc")
    assert [point.step for point in points] == [1, 2]


def test_the_candidate_becomes_champion(pipeline, store):
    promoted = pipeline.promoted
    assert (promoted["promoted"], promoted["version"], promoted["previous_version"]) == (True, "1", None)
    assert int(store.resolve("models:/pipeline@champion").version) == 1


def test_the_gate_computes_the_test_metrics_of_the_training(pipeline):
    metrics = f"logloss {pipeline.trained['test_logloss']:.5f}, AUC {pipeline.trained['test_auc']:.5f}"
    assert pipeline.promoted["reasons"][1].startswith(metrics)


def test_the_scored_day_is_published(pipeline):
    scored, day = pipeline.scored, published(pipeline)
    assert (scored["rows_in"], scored["rows_scored"], scored["rows_bad"]) == (2000, 2000, 0)
    assert scored["mean_probability"] == pytest.approx(day["probability"].mean())
    assert set(day["model_version"]) == {"1"}
    assert day["probability"].between(0, 1).all()


def test_pyfunc_gives_the_published_probabilities(pipeline, store):
    """With the types that pandas infers, and including nulls and unknown values."""
    day = published(pipeline)
    raw = day[raw_columns()].apply(
        lambda column: pd.to_numeric(column) if column.name.startswith("I") else column.replace("", None)
    )
    served = mlflow.pyfunc.load_model("models:/pipeline@champion").predict(raw)
    assert raw.isna().any().any()
    assert np.abs(served - day["probability"]).max() < 1e-6


def test_scoring_a_published_day_again_changes_nothing(pipeline, profile_path):
    before = published(pipeline)
    again = run(
        *(sys.executable, "jobs/score.py", "--date", DAY, "--model-uri", "models:/pipeline@champion"),
        *("--input", pipeline.folder / "log", "--output", pipeline.folder / "scores"),
        *("--profile", profile_path),
    )
    assert again.returncode == 0, again.stderr
    assert "is already published" in again.stderr
    summary = json.loads(again.stdout.splitlines()[-1])
    assert {**summary, "published_now": True, "seconds": 0} == {**pipeline.scored, "seconds": 0}
    pd.testing.assert_frame_equal(published(pipeline), before)


# --- real logs


def whole_pipeline(
    run_job, folder: Path, name: str, data: str, log: Path, model: str, days=(), scored_day=None
):
    """Run all jobs on a log; return the summaries of train, promote and score."""
    built = ["--data", f"conf/data/{data}.yaml", "--input", log, "--output", folder / "dataset", *days]
    assert run_job("build_features", *built).summary["rows_bad"] == 0
    flags = ["--dataset", folder / "dataset", "--model", model, "--num-workers", 0, "--name", name]
    trained = run_job("train", *flags).summary
    promoted = run_job("promote", "--name", name).summary
    scored = run_job(
        "score",
        *("--date", scored_day or DAY, "--model-uri", f"models:/{name}@champion"),
        *("--input", log, "--output", folder / "scores"),
    ).summary
    return trained, promoted, scored


def test_the_whole_pipeline_runs_on_criteo_rows(run_job, real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "model.yaml").write_text(SMALL_MODEL)
    log = real_data("criteo_2000.tsv")
    _, promoted, scored = whole_pipeline(
        run_job, tmp_path, "criteo-rows", "criteo", log, tmp_path / "model.yaml"
    )
    assert promoted["promoted"]
    assert scored["rows_scored"] == scored["rows_in"] == len(log.read_text().splitlines())
    assert 0.05 < scored["mean_probability"] < 0.5


def test_deepfm_ranks_movielens(run_job, real_data, tmp_path, monkeypatch):
    """Split by its real days: 80, 10 and 10 % of the ratings."""
    monkeypatch.chdir(ROOT)
    days = [
        *("--train-days", "1997-09-20:1998-03-07"),
        *("--valid-days", "1998-03-08:1998-03-31"),
        *("--test-days", "1998-04-01:1998-04-22"),
    ]
    trained, promoted, scored = whole_pipeline(
        run_job,
        tmp_path,
        "movielens",
        "movielens",
        real_data("movielens_100k.tsv"),
        "conf/model/deepfm_movielens.yaml",
        days,
        scored_day="1998-04-20",
    )
    assert trained["test_auc"] > 0.70
    assert trained["test_logloss"] < trained["test_ctr_logloss"]
    assert promoted["promoted"]
    assert scored["rows_scored"] == scored["rows_in"] > 0


# --- MLflow as a server


def test_training_gate_and_scoring_share_an_mlflow_server(run_job, write_log, tmp_path, store):
    """Runs, files and aliases use HTTP only; the store of the profile is not used."""
    days = {"train": "2026-01-06", "valid": "2026-01-07", "test": DAY}
    rows = [f"{n % 2}\t{n % 3}\t{'ab'[n % 2]}" for n in range(24)]
    log = write_log(dict.fromkeys(days.values(), rows))
    (tmp_path / "model.yaml").write_text(SMALL_MODEL)
    (tmp_path / "data.yaml").write_text(
        "format: delimited\ncolumns: [label, I, C]\n"
        "fields: [{kind: count, names: [I]}, {kind: category, names: [C]}]\n"
    )
    dataset = tmp_path / "dataset"
    split = [f"--{part}-days={day}" for part, day in days.items()]
    flags = ["--data", tmp_path / "data.yaml", "--input", log, "--output", dataset]
    assert run_job("build_features", *flags, *split).status == 0
    with mlflow_server(tmp_path) as address:
        where = ["--tracking-uri", address]
        flags = ["--dataset", dataset, "--model", tmp_path / "model.yaml", "--num-workers", 0]
        trained = run_job("train", *flags, "--name", "by_http", *where).summary
        assert run_job("promote", "--name", "by_http", *where).summary["promoted"]
        flags = ["--date", DAY, "--input", log, "--output", tmp_path / "scores", *where]
        scored = run_job("score", *flags, "--model-uri", "models:/by_http@champion").summary
        assert (scored["rows_scored"], scored["version"]) == (24, "1")
        client = MlflowStore(address).client
        points = client.get_metric_history(trained["run_id"], "valid_auc")
        assert [point.step for point in points] == [1, 2]
        (version,) = client.search_model_versions("name = 'by_http'")
        assert version.run_id == trained["run_id"]
    assert store.client.search_model_versions("name = 'by_http'") == []
