"""Scoring raw rows in Spark gives each row once, with the same score as anywhere else."""

import os

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from deepfm.artifact.artifact import load_artifact
from deepfm.artifact.checksums import write_checksums
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import count_rows, raw_rows
from deepfm.scoring.predict import score_rows, ship_model, shipped_model
from deepfm.settings.data import DataSettings

DAY = "2026-01-08"
BY_VALUE = {"a": 1.0, "b": 2.0, None: 3.0, "?": 4.0}
LINES = ["1\t0\ta", "0\t1\tb", "1\t\t", "0\t7\tnew", "2\t0\ta", "1\tx\ta", "0\t0"]


@pytest.fixture
def score(spark, small_data):
    """Score a log's day with a model folder and return the rows as dicts."""

    def rows(
        log, model, *, settings: DataSettings = small_data, day=DAY, keep=(), days=(DAY,), labelled=False
    ):
        click_log = find_click_log(f"file://{log}", settings, days=days, labelled=labelled, keep=keep)
        raw = raw_rows(spark, click_log, days)
        scored = score_rows(raw, click_log.row_format, ship_model(spark, str(model)), day).collect()
        rows = [row.asDict() for row in scored if row.kind != "totals"]
        assert len(rows) == count_rows(spark, click_log, days)
        return rows

    return rows


def probabilities(rows) -> list[float]:
    return sorted(row["probability"] for row in rows if row["kind"] == "scored")


def test_every_row_is_scored_or_bad(score, write_log, save_model):
    rows = score(write_log({DAY: LINES}), save_model(c=BY_VALUE))
    assert probabilities(rows) == pytest.approx(
        [0.7310586, 0.7310586, 0.8807971, 0.9525741, 0.9820138], abs=1e-6
    )
    bad = {row["text"]: row["reason"] for row in rows if row["kind"] == "bad"}
    assert bad == {"1\tx\ta": "count_not_an_integer", "0\t0": "wrong_number_of_columns"}


def test_a_wrong_label_is_ignored_if_labels_are_not_read(score, write_log, save_model):
    (row,) = score(write_log({DAY: ["7\t0\ta"]}), save_model())
    assert row["kind"] == "scored"


def test_unlabelled_impressions_score_the_same(score, write_log, save_model):
    labelled = write_log({DAY: ["1\t0\ta", "0\t1\tb", "0\t\t", "1\t9\tnew"]}, "labelled")
    unlabelled = write_log({DAY: ["0\ta", "1\tb", "\t", "9\tnew"]}, "unlabelled")
    model = save_model(c=BY_VALUE)
    assert probabilities(score(unlabelled, model)) == probabilities(score(labelled, model))


def test_scores_equal_those_without_spark(score, write_log, save_model):
    folder = save_model()
    torch.manual_seed(1)
    weights = load_file(folder / "weights.safetensors")
    save_file({key: torch.randn_like(w) for key, w in weights.items()}, folder / "weights.safetensors")
    write_checksums(f"file://{folder}")
    model = load_artifact(f"file://{folder}")
    columns = {"I": [0, 1, None, 10**12], "C": ["b", None, "a", "new"]}
    lines = [f"0\t{'' if i is None else i}\t{c or ''}" for i, c in zip(*columns.values(), strict=True)]
    expected = model.probabilities(pa.table(columns))
    assert probabilities(score(write_log({DAY: lines}), folder)) == pytest.approx(sorted(expected), abs=1e-6)


def test_kept_columns_stay_with_their_rows(score, write_log, save_model):
    rows = score(write_log({DAY: ["1\t0\ta", "0\t1\tb", "0\t\t"]}), save_model(c=BY_VALUE), keep=("C", "I"))
    kept = {(row["keep:C"], row["keep:I"]): round(row["probability"], 3) for row in rows}
    assert kept == {("a", "0"): 0.731, ("b", "1"): 0.881, ("", ""): 0.953}


def test_kept_columns_may_have_the_names_of_columns_of_bad_rows(score, write_log, save_model, small_data):
    settings = small_data.model_copy(update={"columns": ("label", "I", "C", "text", "reason", "kind")})
    log = write_log({DAY: ["1\t0\ta\tt\tr\tk", "1\t0\ta\tt\tr"]})
    rows = score(log, save_model(), settings=settings, keep=("text", "reason", "kind"))
    scored, bad = sorted(rows, key=lambda row: row["kind"] == "bad")
    assert (scored["keep:text"], scored["keep:reason"], scored["keep:kind"]) == ("t", "r", "k")
    assert (bad["text"], bad["reason"]) == ("1\t0\ta\tt\tr", "wrong_number_of_columns")


def test_rows_of_other_days_are_counted_not_scored(score, tmp_path, save_model, small_data):
    settings = small_data.model_copy(update={"columns": (*small_data.columns, "day"), "day_column": "day"})
    (tmp_path / "log.tsv").write_text(f"1\t0\ta\t{DAY}\n1\t0\ta\t2026-01-07\n0\t1\tb\t{DAY}\n")
    rows = score(tmp_path / "log.tsv", save_model(), settings=settings)
    assert sorted(row["kind"] for row in rows) == ["other_day", "scored", "scored"]


def test_rows_of_other_days_by_their_times_are_counted_not_scored(score, tmp_path, save_model, small_data):
    time_settings = {"columns": (*small_data.columns, "ts"), "time_column": "ts", "time_format": "iso"}
    (tmp_path / "log.tsv").write_text(f"1\t0\ta\t{DAY} 23:59:59\n1\t0\ta\t2026-01-07 00:00:00\n")
    rows = score(tmp_path / "log.tsv", save_model(), settings=small_data.model_copy(update=time_settings))
    assert sorted(row["kind"] for row in rows) == ["other_day", "scored"]


def test_bad_rows_of_other_days_do_not_count(score, tmp_path, save_model, small_data):
    settings = small_data.model_copy(update={"columns": (*small_data.columns, "day"), "day_column": "day"})
    bad = {
        f"1\tx\ta\t{DAY}": "bad",  # not a count
        "1\tx\ta\t2026-01-07": "other_day",
        "1\t0\ta\tyesterday": "undated",
        "1\tx\ta\tyesterday": "undated",
        "1\t0": "undated",
    }
    (tmp_path / "log.tsv").write_text("\n".join([f"1\t0\ta\t{DAY}", *bad]) + "\n")
    rows = score(tmp_path / "log.tsv", save_model(), settings=settings)
    kinds = sorted(row["kind"] for row in rows)
    assert kinds == sorted(["scored", *bad.values()])
    reported = {row["text"]: row["kind"] for row in rows if row["kind"] in ("bad", "undated")}
    assert reported == {text: kind for text, kind in bad.items() if kind != "other_day"}


def test_a_header_is_not_a_row(score, tmp_path, save_model, small_data):
    settings = small_data.model_copy(update={"columns": (), "header": True})
    for name in ("1.tsv", "2.tsv"):
        (tmp_path / "log" / f"ds={DAY}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "log" / f"ds={DAY}" / name).write_text("C\tI\tlabel\na\t0\t1\n")
    rows = score(tmp_path / "log", save_model(), settings=settings)
    assert [row["kind"] for row in rows] == ["scored", "scored"]


def test_a_model_is_loaded_once_per_worker(spark, save_model):
    name = ship_model(spark, str(save_model()))

    def loads(batches):
        shipped_model.cache_clear()
        for _ in batches:
            for _ in range(5):
                shipped_model(name)
            yield pa.RecordBatch.from_pydict(
                {"pid": [os.getpid()], "loads": [shipped_model.cache_info().misses]}
            )

    rows = spark.range(8, numPartitions=2).mapInArrow(loads, "pid long, loads long").collect()
    assert [row.loads for row in rows] == [1] * len(rows)
