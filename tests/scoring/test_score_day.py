"""The scoring job publishes a day of a log with a registered model."""

import json
from datetime import date, datetime
from decimal import Decimal

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from deepfm.artifact.checksums import write_checksums

DAY = "2026-01-08"
LINES = ["1\t0\ta", "0\t1\tb", "1\t\t", "0\t7\tnew", "0\t123\ta", "1\tx\ta"]


@pytest.fixture
def model(request, save_model, register):
    """A registered model with random weights, named after the test."""
    folder = save_model()
    torch.manual_seed(1)
    weights = load_file(folder / "weights.safetensors")
    save_file({key: torch.randn_like(w) for key, w in weights.items()}, folder / "weights.safetensors")
    write_checksums(f"file://{folder}")
    register(folder, request.node.name)
    return request.node.name


@pytest.fixture
def score(run_job, tmp_path, model):
    """Run score.py on this test's log and output."""

    def run(log, *flags, which="/1"):
        paths = ["--input", log, "--output", tmp_path / "scores"]
        return run_job("score", "--date", DAY, "--model-uri", f"models:/{model}{which}", *paths, *flags)

    return run


def contents(folder) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_summary_describes_the_published_day(score, write_log, model, tmp_path):
    summary = score(write_log({DAY: LINES})).summary
    counts = ("date", "rows_in", "rows_scored", "rows_bad", "name", "version", "output")
    output = f"file://{tmp_path}/scores/ds={DAY}"
    assert [summary[key] for key in counts] == [DAY, 6, 5, 1, model, "1", output]
    published = pd.read_parquet(tmp_path / "scores" / f"ds={DAY}")
    assert summary["mean_probability"] == pytest.approx(published["probability"].mean())


def test_pyfunc_gives_the_probabilities_of_the_scoring_job(score, write_log, model, tmp_path):
    score(write_log({DAY: LINES}), "--keep", "I,C").summary
    published = pd.read_parquet(tmp_path / "scores" / f"ds={DAY}")
    raw = published[["I", "C"]].assign(I=pd.to_numeric(published["I"]))
    assert raw["I"].isna().sum() == 1
    served = mlflow.pyfunc.load_model(f"models:/{model}/1").predict(raw)
    assert np.abs(served - published["probability"]).max() < 1e-6
    assert published["probability"].nunique() == 5


def test_rerunning_a_day_changes_nothing(score, write_log, tmp_path):
    log = write_log({DAY: LINES})
    first = score(log).summary
    before = contents(tmp_path / "scores")
    again = score(log)
    assert "is already published" in again.stderr
    assert contents(tmp_path / "scores") == before
    assert again.summary | {"published_now": True, "seconds": 0} == first | {"seconds": 0}


def test_a_published_day_that_lacks_a_requested_column_is_reported(score, write_log, tmp_path):
    log = write_log({DAY: LINES})
    score(log, "--keep", "C").summary
    assert not score(log, "--keep", "C").summary["published_now"]
    message = score(log, "--keep", "C,I").mistake
    assert "--keep: expected I in" in message
    assert "--overwrite scores it again" in message
    assert score(log, "--keep", "C,I", "--overwrite").summary["kept"] == ["C", "I"]


def test_a_new_champion_does_not_change_a_published_day(score, write_log, store, model, register, save_model):
    log = write_log({DAY: LINES})
    store.client.set_registered_model_alias(model, "champion", "1")
    score(log, which="@champion").summary
    register(save_model("second"), model)
    store.client.set_registered_model_alias(model, "champion", "2")
    assert score(log, which="@champion").summary["version"] == "1"
    overwritten = score(log, "--overwrite", which="@champion").summary
    assert (overwritten["version"], overwritten["mean_probability"]) == ("2", 0.5)


def test_kept_columns_are_published(score, write_log, tmp_path):
    score(write_log({DAY: ["1\t0\ta"]}), "--keep", "C, label").summary
    published = pd.read_parquet(tmp_path / "scores" / f"ds={DAY}")
    assert list(published.columns)[:3] == ["C", "label", "probability"]
    assert published[["C", "label"]].iloc[0].tolist() == ["a", "1"]


def test_a_parquet_log_keeps_its_types(run_job, save_model, register, small_data, tmp_path):
    folder = save_model(c={"a": 1.0})
    card = json.loads((folder / "model.json").read_text())
    card["data"] |= {"format": "parquet", "columns": []}
    (folder / "model.json").write_text(json.dumps(card))
    write_checksums(f"file://{folder}")
    register(folder, "day-parquet")
    day = tmp_path / "log" / f"ds={DAY}"
    day.mkdir(parents=True)
    rows = pd.DataFrame({"I": [1.0, None], "C": ["a", None], "user": [2**62 + 1, 7], "price": [0.5, 1.0]})
    rows.to_parquet(day / "part.parquet")
    flags = ["--input", tmp_path / "log", "--output", tmp_path / "scores", "--keep", "user,price"]
    run_job("score", "--date", DAY, "--model-uri", "models:/day-parquet/1", *flags).summary
    published = pd.read_parquet(tmp_path / "scores" / f"ds={DAY}").sort_values("probability")
    assert published["user"].tolist() == [7, 2**62 + 1]
    assert published["price"].tolist() == [1.0, 0.5]
    assert published["probability"].tolist() == pytest.approx([0.5, 0.7310586])


def test_every_kept_type_is_published_unchanged_or_refused(run_job, save_model, register, tmp_path):
    """As Arrow reads it: with nulls, NaN, an empty array, times before 1900 and after 2262."""
    folder = save_model(c={"a": 1.0})
    card = json.loads((folder / "model.json").read_text())
    card["data"] |= {"format": "parquet", "columns": []}
    (folder / "model.json").write_text(json.dumps(card))
    write_checksums(f"file://{folder}")
    register(folder, "kept-types")
    early, late = datetime(1, 1, 2), datetime(9999, 12, 31, 23, 59, 59, 999_999)
    kept = {
        "id": pa.array([2**62 + 1, 7, None]),
        "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "flag": pa.array([True, False, None]),
        "price": pa.array([float("nan"), -0.0, None], pa.float64(), from_pandas=False),
        "float": pa.array([0.1, float("inf"), None], pa.float32()),
        "money": pa.array([Decimal("1.50"), Decimal("-99999999.99"), None], pa.decimal128(10, 2)),
        "date": pa.array([date(1, 1, 1), date(9999, 12, 31), None]),
        "local": pa.array([early, late, None], pa.timestamp("us")),
        "instant": pa.array([early, late, None], pa.timestamp("us", "UTC")),
        "nanoseconds": pa.array([1_000, -1_000, None], pa.timestamp("ns")),
        "text": pa.array(['a "b",\n', "", None]),
        "raw": pa.array([b"\xff\x00", b"", None]),
        "tags": pa.array([["a", None, ""], [], None]),
        "nothing": pa.nulls(3),
    }
    day = tmp_path / "log" / f"ds={DAY}"
    day.mkdir(parents=True)
    refused = {"time": pa.array([1, 2, 3], pa.time64("us")), "exact": pa.array([1, 2, 3], pa.timestamp("ns"))}
    features = {"I": [1, 2, None], "C": ["a", "b", None]}
    pq.write_table(pa.table({**features, **kept, **refused}), day / "part.parquet")
    flags = ["--input", tmp_path / "log", "--output", tmp_path / "scores", "--model-uri"]
    flags += ["models:/kept-types/1", "--date", DAY, "--keep"]
    for name, message in (("time", "found time64[us]"), ("exact", "found nanoseconds in")):
        assert message in run_job("score", *flags, name).mistake
    assert not (tmp_path / "scores").exists()
    run_job("score", *flags, ",".join(kept)).summary
    published = pq.read_table(tmp_path / "scores" / f"ds={DAY}", partitioning=None)
    changed = {"unsigned": pa.decimal128(20, 0), "nanoseconds": pa.timestamp("us"), "nothing": pa.string()}
    for name, column in kept.items():
        expected = column.cast(changed.get(name, column.type))
        assert published.column(name).type in (expected.type, pa.list_(pa.field("element", pa.string())))
        assert repr(published.column(name).to_pylist()) == repr(expected.to_pylist()), name


def test_a_folder_of_another_day_is_not_scored(score, write_log, tmp_path):
    log = write_log({"2026-01-07": LINES})
    assert "found a folder of 2026-01-07" in score(log / "ds=2026-01-07").mistake
    assert not (tmp_path / "scores").exists()


def test_days_of_a_range_are_published_one_by_one_and_published_ones_skipped(
    run_job, write_log, tmp_path, model
):
    log = write_log({f"2026-01-0{n}": LINES[:n] for n in (2, 3, 4)})
    flags = ["--model-uri", f"models:/{model}/1", "--input", log, "--output", tmp_path / "scores"]
    run_job("score", "--date", "2026-01-03", *flags).summary
    before = contents(tmp_path / "scores" / "ds=2026-01-03")
    summary = run_job("score", "--from", "2026-01-02", "--to", "2026-01-04", *flags).summary
    assert [(day["date"], day["rows_in"], day["published_now"]) for day in summary["days"]] == [
        ("2026-01-02", 2, True),
        ("2026-01-03", 3, False),
        ("2026-01-04", 4, True),
    ]
    assert summary["published_now"] == 2
    assert contents(tmp_path / "scores" / "ds=2026-01-03") == before


def test_the_other_days_of_a_range_are_published_if_one_has_no_log(run_job, write_log, tmp_path, model):
    log = write_log({"2026-01-02": LINES[:2], "2026-01-04": LINES[:4]})
    flags = ["--model-uri", f"models:/{model}/1", "--input", log, "--output", tmp_path / "scores"]
    summary, error = run_job("score", "--from", "2026-01-02", "--to", "2026-01-04", *flags).incomplete
    assert [day["date"] for day in summary["days"]] == ["2026-01-02", "2026-01-04"]
    assert list(summary["failed"]) == ["2026-01-03"]
    assert error.startswith("1 of 3 days failed, the others are done: 2026-01-03: ")
    assert {path.name for path in (tmp_path / "scores").glob("ds=*")} == {"ds=2026-01-02", "ds=2026-01-04"}


def test_a_dry_run_checks_a_sample_and_publishes_nothing(score, write_log, tmp_path):
    log = write_log({DAY: LINES})
    summary = score(log, "--dry-run").summary
    assert (summary["num_compared"], summary["published_now"]) == (5, False)
    assert not (tmp_path / "scores").exists()
    assert (
        "expected impressions, found none that fit"
        in score(write_log({DAY: ["x"]}, "empty"), "--dry-run").mistake
    )


def test_the_provenance_names_input_model_and_code(score, write_log, tmp_path):
    log = write_log({DAY: LINES})
    summary = score(log).summary
    provenance = json.loads((tmp_path / "scores" / f"ds={DAY}" / "_provenance.json").read_text())
    assert provenance["input_url"] == f"file://{log}"
    assert len(provenance["code_version"]) >= 7
    other = write_log({DAY: [*LINES[1:], LINES[0]]}, "other")
    again = score(other, "--overwrite").summary
    # The same rows in another order.
    assert again["input_digest"] == summary["input_digest"]
    assert again["model_digest"] == summary["model_digest"]
    third = score(write_log({DAY: LINES[1:]}, "third"), "--overwrite").summary
    assert third["input_digest"] != summary["input_digest"]


def test_different_scores_than_in_training_are_detected(score, write_log, tmp_path, monkeypatch):
    from deepfm.scoring import skew

    score_as_in_training = skew._score_as_in_training
    monkeypatch.setattr(skew, "_score_as_in_training", lambda *rows: score_as_in_training(*rows) + 1e-4)
    message = score(write_log({DAY: LINES})).mistake
    assert "skew check: 5 of 5 rows have another score than in training" in message
    assert not (tmp_path / "scores").exists()


def test_bfloat16_scores_are_close_to_float32_scores(score, write_log, tmp_path, profile_path):
    log = write_log({DAY: LINES})
    score(log, "--keep", "I,C").summary
    exact = pd.read_parquet(tmp_path / "scores" / f"ds={DAY}").sort_values(["I", "C"])["probability"]
    profile = yaml.safe_load(profile_path.read_text()) | {"scoring": {"precision": "bf16"}}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    flags = ["--keep", "I,C", "--overwrite", "--profile", tmp_path / "profile.yaml"]
    assert score(log, *flags).summary["num_compared"] == 5
    rounded = pd.read_parquet(tmp_path / "scores" / f"ds={DAY}").sort_values(["I", "C"])["probability"]
    assert np.abs(exact.to_numpy() - rounded.to_numpy()).max() < 0.02
