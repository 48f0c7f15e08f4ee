"""Metrics of models on the held-out rows of a log match values computed by hand."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.split import DaySplit
from deepfm.registry.gate import Slice
from deepfm.scoring.labelled_metrics import NUM_GROUPS, evaluate_models
from deepfm.scoring.predict import ship_model

DAY = "2026-01-08"


@pytest.fixture
def evaluate(spark, small_data):
    """Evaluate models on the test day of a log."""

    def run(log, folders, test_day=DAY, **slices):
        click_log = find_click_log(f"file://{log}", small_data)
        split = DaySplit((("2026-01-01",) * 2, ("2026-01-02",) * 2, (test_day, test_day)))
        names = [ship_model(spark, str(folder)) for folder in folders]
        return evaluate_models(raw_rows(spark, click_log), click_log.row_format, names, split, **slices)

    return run


def test_models_are_evaluated_on_the_same_rows_of_the_test_day(evaluate, write_log, save_model):
    lines = ["1\t0\ta", "0\t1\tb", "1\t\tb", "0\t7\tnew", "1\t0\ta", "0\t0\ta"]
    log = write_log({"2026-01-01": ["0\t0\tb"] * 9, DAY: lines})
    labels = np.array([1, 0, 1, 0, 1, 0])
    logits = {"one": {"a": 1.0, "b": -1.0, "?": -2.0}, "two": {"a": -1.0, "b": 3.0, "?": 0.5}}
    folders = [save_model(name, c=c) for name, c in logits.items()]
    for evaluation, by_value in zip(evaluate(log, folders), logits.values(), strict=True):
        values = np.array([by_value[c] for c in ("a", "b", "b", "?", "a", "a")])
        expected = 1 / (1 + np.exp(-values))
        metrics = evaluation.metrics
        assert metrics.num_rows == 6
        assert metrics.ctr == 0.5
        assert metrics.logloss == pytest.approx(log_loss(labels, expected), abs=1e-6)
        assert metrics.auc == pytest.approx(roc_auc_score(labels, expected), abs=1e-6)
        assert metrics.mean_probability == pytest.approx(expected.mean(), abs=1e-6)


def test_rows_that_do_not_fit_are_not_evaluated(evaluate, write_log, save_model):
    log = write_log({DAY: ["1\t0\ta", "0\t0\ta", "7\t0\ta", "1\tx\ta"]})
    (evaluation,) = evaluate(log, [save_model()])
    assert evaluation.metrics.num_rows == 2


def test_a_row_that_does_not_fit_one_model_is_evaluated_for_none(evaluate, write_log, save_model):
    log = write_log({DAY: ["1\t0\ta", "0\t0\tb", "1\tx\ta", "0\t1\ta"]})
    evaluations = evaluate(log, [save_model("one"), save_model("two", with_i=False)])
    assert [evaluation.metrics.num_rows for evaluation in evaluations] == [3, 3]


def test_a_test_day_without_rows_has_no_metrics(evaluate, write_log, save_model):
    assert evaluate(write_log({"2026-01-01": ["1\t0\ta"]}), [save_model()]) == []


LINES = ["1\t0\ta", "0\t1\ta", "1\t\tb", "0\t7\tnew", "1\t0\t", "0\t9\ta"]


def test_slices_are_the_values_of_a_field_that_have_enough_rows(evaluate, write_log, save_model):
    log = write_log({DAY: LINES})
    (evaluation,) = evaluate(log, [save_model(c={"a": 1.0})], slice_fields=["C"])
    assert {value: part.num_rows for value, part in evaluation.slices["C"].items()} == {
        "a": 3, "b": 1, "new": 1, "(missing)": 1
    }  # fmt: skip
    probability = 1 / (1 + np.exp(-1.0))
    loss = log_loss([1, 0, 0], [probability] * 3)
    assert evaluation.slices["C"]["a"] == Slice(
        3, pytest.approx(1 / 3), pytest.approx(probability, abs=1e-6), pytest.approx(loss, abs=1e-6)
    )
    (few,) = evaluate(log, [save_model("again", c={"a": 1.0})], slice_fields=["C"], min_slice_rows=2)
    assert set(few.slices["C"]) == {"a"}


def test_unknown_values_are_shares_of_the_rows_by_field(evaluate, write_log, save_model):
    (evaluation,) = evaluate(write_log({DAY: LINES}), [save_model()])
    # Known values are the buckets of 0 and 1, and a and b.
    assert evaluation.unknown == {"I": pytest.approx(2 / 6), "C": pytest.approx(1 / 6)}


def test_random_groups_hold_all_rows_and_are_the_same_for_every_model(evaluate, write_log, save_model):
    folders = [save_model("one", c={"a": 1.0}), save_model("two", c={"a": -1.0})]
    one, other = evaluate(write_log({DAY: LINES}), folders)
    assert one.groups.shape == (NUM_GROUPS, 2)
    assert (one.groups[:, 1] == other.groups[:, 1]).all()
    assert one.groups.sum(axis=0) == pytest.approx([6 * one.metrics.logloss, 6], abs=1e-6)


def test_a_model_that_no_row_fits_makes_no_comparison(evaluate, write_log, save_model):
    assert evaluate(write_log({DAY: ["1\tx\ta"]}), [save_model("one"), save_model("two", with_i=False)]) == []
