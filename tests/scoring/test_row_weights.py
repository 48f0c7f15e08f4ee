"""The promotion gate and live metrics of an aggregated log are those of its impressions."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.split import DaySplit
from deepfm.scoring.days import day_url
from deepfm.scoring.labelled_metrics import evaluate_models
from deepfm.scoring.live import live_metrics
from deepfm.scoring.predict import ship_model
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

DAY = "2026-01-08"
#: Columns n, k, I, C, key: impressions, clicks, fields, and the name of the row.
ROWS = [(5, 2, 0, "a", "p"), (3, 0, 1, "b", "q"), (2, 2, 0, "new", "r"), (9, 1, 1, "", "s")]
FIELDS = [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}]
COLUMNS = {"format": "delimited", "fields": FIELDS}
AGGREGATED = parse_settings(
    {**COLUMNS, "columns": ["n", "k", "I", "C", "key"], "impressions": "n", "clicks": "k"},
    DataSettings,
    "test",
)
#: Each impression is a row with a click or without, and a number in its key.
EXPANDED = parse_settings({**COLUMNS, "columns": ["label", "I", "C", "key"]}, DataSettings, "test")
METRICS = ("logloss", "auc", "ctr", "mean_probability", "ece")


def write_logs(write_log):
    aggregated = ["\t".join(map(str, row)) for row in ROWS]
    expanded = [
        f"{int(number < k)}\t{i}\t{c}\t{key}{number}" for n, k, i, c, key in ROWS for number in range(n)
    ]
    return write_log({DAY: aggregated}, "aggregated"), write_log({DAY: expanded}, "expanded")


def publish(folder, probabilities):
    """Write a published day of {key: probability}."""
    url = day_url(f"file://{folder}", DAY)
    (folder / f"ds={DAY}").mkdir(parents=True)
    assert url == f"file://{folder}/ds={DAY}"
    table = pa.table({"key": list(probabilities), "probability": list(probabilities.values())})
    pq.write_table(table, folder / f"ds={DAY}" / "part.parquet")
    return f"file://{folder}"


def test_the_metrics_of_an_aggregated_log_are_those_of_its_impressions(
    spark, tmp_path, write_log, save_model
):
    aggregated, expanded = write_logs(write_log)
    name = ship_model(spark, str(save_model(c={"a": 1.0, "b": -1.0, "?": -2.0, None: 0.5})))
    split = DaySplit((("2026-01-01",) * 2, ("2026-01-02",) * 2, (DAY, DAY)))
    evaluations = []
    for log, settings in ((aggregated, AGGREGATED), (expanded, EXPANDED)):
        found = find_click_log(f"file://{log}", settings)
        rows = raw_rows(spark, found)
        evaluations += evaluate_models(rows, found.row_format, [name], split, slice_fields=["C"])
    gate, expected = evaluations
    for metric in METRICS:
        assert getattr(gate.metrics, metric) == pytest.approx(getattr(expected.metrics, metric)), metric
    assert (gate.metrics.num_rows, gate.metrics.weight) == (6, 19)
    assert gate.groups.sum(axis=0) == pytest.approx(expected.groups.sum(axis=0))
    assert gate.unknown == pytest.approx(expected.unknown)
    for value, one in expected.slices["C"].items():
        assert gate.slices["C"][value].logloss == pytest.approx(one.logloss)
        assert gate.slices["C"][value].ctr == pytest.approx(one.ctr)

    scores = {"p": 0.7, "q": 0.2, "r": 0.4, "x": 0.5}
    scores_url = publish(tmp_path / "scores", scores)
    live = live_metrics(spark, scores_url, DAY, f"file://{aggregated}", AGGREGATED, ("key",))
    numbered = {f"{key}{number}": p for key, p in scores.items() for number in range(5)}
    numbered_url = publish(tmp_path / "numbered", numbered)
    expected = live_metrics(spark, numbered_url, DAY, f"file://{expanded}", EXPANDED, ("key",))
    for metric in METRICS:
        assert getattr(live.metrics, metric) == pytest.approx(getattr(expected.metrics, metric)), metric
    assert (live.metrics.num_rows, live.metrics.weight) == (4, 10)
    assert (live.rows_without_label, live.labels_without_score) == (1, 1)

    (aggregated / f"ds={DAY}" / "part-00000.tsv").write_text("1\t1\t0\ta\tp\n3\t0\t0\ta\tp\n")
    live = live_metrics(spark, scores_url, DAY, f"file://{aggregated}", AGGREGATED, ("key",))
    assert (live.keys_with_several_labels, live.metrics.weight) == (1, 4)
