"""A published day is joined with its labels by a key."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.artifact.checksums import write_checksums
from deepfm.scoring.live import live_metrics
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings
from deepfm.tracking.run import logged_model_id

DAY = "2026-01-08"


@pytest.fixture
def publish_day(run_job, save_model, register, tmp_path, request):
    """Publish a day of impressions whose key is a column that the model does not use.

    Its parameter: days of the model's dataset.
    """
    folder = save_model(c={"a": 1.0, "b": -1.0}, days=getattr(request, "param", None))
    card = json.loads((folder / "model.json").read_text())
    card["data"]["columns"] = ["label", "I", "C", "id"]
    (folder / "model.json").write_text(json.dumps(card))
    write_checksums(f"file://{folder}")
    name = request.function.__name__
    version = register(folder, name)

    def publish(rows, day=DAY):
        """(id, C) of the impressions."""
        (tmp_path / "log" / f"ds={day}").mkdir(parents=True)
        lines = "".join(f"0\t{c}\t{key}\n" for key, c in rows)
        (tmp_path / "log" / f"ds={day}" / "part.tsv").write_text(lines)
        flags = ["--model-uri", f"models:/{name}/{version}", "--input", tmp_path / "log"]
        return run_job(
            "score", "--date", day, *flags, "--output", tmp_path / "scores", "--keep", "id"
        ).summary

    return publish


@pytest.fixture
def evaluate(run_job, tmp_path):
    """Evaluate the day with {id: label}."""

    def run(labels, day=DAY, key="id"):
        folder = tmp_path / f"labelled-{len(list(tmp_path.iterdir()))}" / f"ds={day}"
        folder.mkdir(parents=True)
        # The other fields are invalid: only keys and labels are read.
        lines = [f"{label}\tnonsense\ta\t{key}\n" for key, label in labels]
        (folder / "part.tsv").write_text("".join(lines))
        paths = ["--scores", tmp_path / "scores", "--input", folder.parent]
        return run_job("evaluate", "--date", day, *paths, "--key", key)

    return run


ROWS = [("k1", "a"), ("k2", "b"), ("k3", "a"), ("k4", "b"), ("k5", "a")]
LABELS = [("k3", 0), ("k1", 1), ("k2", 0), ("k4", 1), ("k9", 1)]


def test_labels_are_joined_with_scores_by_the_key(publish_day, evaluate):
    publish_day(ROWS)
    summary = evaluate(LABELS).summary
    up, down = 1 / (1 + 2.718281828**-1), 1 / (1 + 2.718281828)
    labels, scores = [1, 0, 0, 1], [up, down, up, down]
    assert summary["num_rows"] == 4
    assert (summary["rows_without_label"], summary["labels_without_score"]) == (1, 1)
    assert summary["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert summary["logloss"] == pytest.approx(log_loss(labels, scores), abs=1e-6)
    assert summary["calibration"] == pytest.approx(1.0, abs=1e-6)


def test_the_other_days_of_a_range_are_evaluated_if_one_was_not_scored(publish_day, run_job, tmp_path):
    for day in (DAY, "2026-01-10"):
        publish_day(ROWS, day=day)
        (tmp_path / "labels" / f"ds={day}").mkdir(parents=True)
        lines = "".join(f"{label}\tx\ta\t{key}\n" for key, label in LABELS)
        (tmp_path / "labels" / f"ds={day}" / "part.tsv").write_text(lines)
    paths = ["--scores", tmp_path / "scores", "--labels", tmp_path / "labels", "--key", "id"]
    summary, error = run_job("evaluate", "--from", DAY, "--to", "2026-01-10", *paths).incomplete
    assert [(day["date"], day["num_rows"]) for day in summary["days"]] == [(DAY, 4), ("2026-01-10", 4)]
    assert "1 of 3 days failed" in error and "2026-01-09: expected a published day, found none" in error


def test_clicks_that_arrive_later_are_read_from_a_log_of_clicks_only(publish_day, run_job, tmp_path):
    """A table of keys in CSV: k1 is clicked twice, k4 a day later, k5 too late, k9 was not scored."""
    publish_day(ROWS)
    for day, keys in (("08", ["k1", "k9"]), ("09", ["k1", "k4"]), ("10", ["k5"])):
        folder = tmp_path / "clicks" / f"ds=2026-01-{day}"
        folder.mkdir(parents=True)
        (folder / "part.csv").write_text(
            "".join(f"{line}\n" for line in ["id,page", *[f"{k},7" for k in keys]])
        )
    (tmp_path / "clicks.yaml").write_text('{format: delimited, delimiter: ",", header: true, label: null}')
    paths = ["--scores", tmp_path / "scores", "--labels", tmp_path / "clicks"]
    flags = [*paths, "--labels-data", tmp_path / "clicks.yaml", "--key", "id", "--max-delay", 1]
    assert "add --missing-label negative" in run_job("evaluate", "--date", DAY, *flags).mistake
    summary = run_job("evaluate", "--date", DAY, *flags, "--missing-label", "negative").summary
    up, down = 1 / (1 + 2.718281828**-1), 1 / (1 + 2.718281828)
    assert (summary["num_rows"], summary["rows_without_label"]) == (5, 3)
    assert (summary["labels_without_score"], summary["keys_with_several_labels"]) == (1, 1)
    assert summary["auc"] == pytest.approx(roc_auc_score([1, 0, 0, 1, 0], [up, down, up, down, up]))
    one_day = [*flags[:3], tmp_path / "clicks" / "ds=2026-01-09", *flags[4:-2]]
    message = run_job("evaluate", "--date", DAY, *one_day, "--missing-label", "negative").mistake
    assert "expected labels of 2026-01-08, found a folder of 2026-01-09" in message


def test_a_key_with_several_labels_is_clicked_if_any_is(publish_day, evaluate):
    publish_day(ROWS)
    summary = evaluate([*LABELS, ("k3", 1), ("k2", 0), ("k4", "x")]).summary
    assert (summary["num_rows"], summary["keys_with_several_labels"], summary["labels_rejected"]) == (4, 2, 1)
    assert summary["auc"] == pytest.approx(roc_auc_score([1, 0, 1, 1], [0.73, 0.27, 0.73, 0.27]))


def test_the_logged_model_has_the_live_metrics_of_the_day(publish_day, evaluate, store, request):
    publish_day(ROWS)
    summary = evaluate(LABELS).summary
    version = store.resolve(f"models:/{request.function.__name__}/{summary['version']}")
    metrics = store.client.get_logged_model(logged_model_id(version)).metrics
    by_dataset = {(one.dataset_name, one.key): one.value for one in metrics}
    assert by_dataset[DAY, "live_auc"] == summary["auc"]


def test_each_day_is_in_the_trend_once(publish_day, evaluate, store, request):
    publish_day(ROWS)
    publish_day(ROWS, day="2026-01-07")
    evaluate(LABELS).summary
    evaluate(LABELS[:3]).summary
    trend = evaluate(LABELS, day="2026-01-07").summary["trend"]
    assert [entry["date"] for entry in trend] == ["2026-01-07", DAY]
    assert trend[1]["auc"] == pytest.approx(0.75)  # of the second evaluation
    runs = store.find_runs(f"{request.function.__name__}-days", "tags.labels = 'true'")
    assert "trend.png" in {file.path for file in store.client.list_artifacts(runs[0].info.run_id)}


def days_of_model(train, valid, test):
    return {"train": (train, train), "valid": (valid, valid), "test": (test, test)}


@pytest.mark.parametrize(
    "publish_day", [days_of_model(DAY, "2026-01-09", "2026-01-10")], indirect=True, ids=["trained"]
)
def test_a_day_that_the_model_was_trained_on_is_evaluated_with_a_warning(publish_day, evaluate):
    publish_day(ROWS)
    job = evaluate(LABELS)
    warning = "version 1 was trained on 2026-01-08: its metrics on 2026-01-08 are better than on new rows"
    assert job.summary["warnings"] == [warning]


@pytest.mark.parametrize(
    "publish_day", [days_of_model("2026-01-05", "2026-01-06", DAY)], indirect=True, ids=["tested"]
)
def test_a_test_day_of_the_model_is_evaluated_without_a_warning(publish_day, evaluate):
    publish_day(ROWS)
    assert evaluate(LABELS).summary["warnings"] == []


@pytest.mark.parametrize(
    ("labels", "key", "message"),
    [
        ([("k8", 1)], "id", "no published row has a label"),
        (LABELS, "I", "--key I: expected among the columns of"),
    ],
)
def test_labels_that_cannot_be_joined_are_reported(publish_day, evaluate, labels, key, message):
    publish_day(ROWS)
    assert message in evaluate(labels, key=key).mistake


def test_a_day_that_is_not_published_is_reported(evaluate):
    assert "expected a published day, found none" in evaluate(LABELS).mistake


@pytest.mark.parametrize("kind", [pa.float64(), pa.decimal128(22, 2), pa.int64(), pa.string()])
def test_keys_of_parquet_are_joined_for_every_column_type(spark, tmp_path, kind):
    """With a null, pandas turns integers into floats: both readers must read 12.0 as 12."""
    texts = ["12", "7", None]
    keys = pa.array(texts if kind == pa.string() else [text and int(text) for text in texts]).cast(kind)
    for name, column, content in (("scores", "probability", [0.9, 0.1, 0.5]), ("log", "label", [1, 0, 1])):
        folder = tmp_path / name / f"ds={DAY}"
        folder.mkdir(parents=True)
        table = pa.table({"id": keys, "C": ["a"] * 3, column: content})
        pq.write_table(table, folder / "part.parquet")
    document = {"format": "parquet", "fields": [{"kind": "category", "names": ["C"]}]}
    settings = parse_settings(document, DataSettings, "test")
    urls = (f"file://{tmp_path}/scores", DAY, f"file://{tmp_path}/log")
    live = live_metrics(spark, *urls, settings, ("id",))
    assert (live.metrics.num_rows, live.rows_without_label, live.labels_without_score) == (3, 0, 0)
    assert live.metrics.logloss == pytest.approx(log_loss([1, 0, 1], [0.9, 0.1, 0.5]), abs=1e-6)


def test_a_key_without_columns_is_reported(publish_day, evaluate):
    publish_day(ROWS)
    assert "--key: expected columns such as C1,C2, found ','" in evaluate(LABELS, key=",").mistake


def test_a_key_with_a_dot_joins_a_text_log(spark, tmp_path):
    """Without quotes Spark reads the dot as access to a struct field."""
    (tmp_path / "scores" / f"ds={DAY}").mkdir(parents=True)
    (tmp_path / "log" / f"ds={DAY}").mkdir(parents=True)
    table = pa.table({"user.id": ["a", "b"], "probability": [0.9, 0.1]})
    pq.write_table(table, tmp_path / "scores" / f"ds={DAY}" / "part.parquet")
    (tmp_path / "log" / f"ds={DAY}" / "part.csv").write_text("label\tC\tuser.id\n1\tx\ta\n0\tx\tb\n")
    document = {"format": "delimited", "header": True, "fields": [{"kind": "category", "names": ["C"]}]}
    settings = parse_settings(document, DataSettings, "test")
    urls = (f"file://{tmp_path}/scores", DAY, f"file://{tmp_path}/log")
    assert live_metrics(spark, *urls, settings, ("user.id",)).metrics.num_rows == 2


@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_an_impossible_drift_limit_is_refused(run_job, tmp_path, limit):
    flags = ["--date", DAY, "--model-uri", "models:/m@champion", "--input", tmp_path, "--output", tmp_path]
    assert "--max-psi: expected a number above 0" in run_job("score", *flags, "--max-psi", limit).mistake
