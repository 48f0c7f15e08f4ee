"""Table of a comparison: means, standard deviations, time relative to LR, results of the paper, bars."""

import pytest

from deepfm.experiments.compare.comparison import ModelResult, SeedResult
from deepfm.experiments.compare.table import PAPER, TITLES, bar_chart, csv_text, markdown, table_rows


def result(model, *aucs, seconds=2.0):
    seeds = tuple(SeedResult(auc, 0.5, 3, seconds, 1000.0) for auc in aucs)
    return ModelResult(model, 1234, seeds)


def test_metrics_are_means_over_seeds_with_their_standard_deviation():
    (row,) = table_rows([result("fm", 0.7, 0.8)])
    assert row["auc"] == pytest.approx(0.75)
    assert row["auc_spread"] == pytest.approx(0.05 * 2**0.5)


def test_one_seed_has_no_spread():
    (row,) = table_rows([result("fm", 0.7)])
    assert row["auc_spread"] is None
    assert "±" not in markdown([row])


def test_times_are_relative_to_lr():
    rows = table_rows([result("lr", 0.7, seconds=2.0), result("fm", 0.8, seconds=5.0)])
    assert [row["time_over_lr"] for row in rows] == [1.0, 2.5]


def test_without_lr_there_is_no_relative_time():
    rows = table_rows([result("fm", 0.8)])
    assert rows[0]["time_over_lr"] is None
    assert len(bar_chart(rows).axes) == 2


def test_results_of_the_paper_are_shown_next_to_ours():
    rows = table_rows([result("deepfm", 0.8), result("dnn", 0.8)])
    deepfm, dnn = markdown(rows).splitlines()[2:]
    assert "| 0.8007 | 0.45083 |" in deepfm
    assert dnn.endswith("|  |  |")


def test_the_paper_has_nine_models():
    assert set(TITLES) - set(PAPER) == {"dnn"}


def test_markdown_has_one_line_per_model():
    line = markdown(table_rows([result("lr", 0.7), result("wide_deep", 0.81, 0.81)])).splitlines()[3]
    start = "| LR & DNN | 0.8100 ± 0.0000 | 0.5000 ± 0.0000 | 1.00 | 3 | 1,000 | 1,234 |"
    assert line.startswith(start)


def test_csv_contains_metrics_without_rounding():
    text = csv_text(table_rows([result("lr", 0.123456789)]))
    assert text.splitlines()[1].startswith("lr,0.123456789,")


def test_bar_heights_equal_the_metrics():
    rows = table_rows([result("lr", 0.7), result("deepfm", 0.8, seconds=6.0)])
    auc, _, time = bar_chart(rows).axes
    assert [bar.get_height() for bar in auc.patches] == [0.7, 0.8]
    assert [bar.get_height() for bar in time.patches] == [1.0, 3.0]
    assert [label.get_text() for label in auc.get_xticklabels()] == ["LR", "DeepFM"]
