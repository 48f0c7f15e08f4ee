"""Files for the textfile collector of node_exporter."""

import re

import pytest

from deepfm.monitoring.alerts import JobOutcome
from deepfm.monitoring.prometheus import format_metrics, write_metrics

DAY = {
    "date": "2026-01-08", "version": "3", "rows_scored": 10, "rows_bad": 1, "mean_probability": 0.25,
    "psi": 0.5, "warnings": ["a", "b"], "published_now": True,
}  # fmt: skip


def values(outcome) -> dict[str, float]:
    """Metrics by name; fails if a line has another form, or a metric no type."""
    lines = format_metrics(outcome).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    matches = [re.fullmatch(r'(\w+)\{job="[^"]*",name="[^"]*"\} (\S+)', line) for line in samples]
    assert all(matches), samples
    assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == [m[1] for m in matches]
    return {match[1]: float(match[2]) for match in matches}


def test_a_scored_day_has_its_counts_and_its_drift():
    found = values(JobOutcome("score", "ctr", 0, 2.5, DAY))
    assert found.pop("deepfm_job_last_run_timestamp_seconds") > 1.7e9
    assert found == {
        "deepfm_job_success": 1,
        "deepfm_job_exit_status": 0,
        "deepfm_job_duration_seconds": 2.5,
        "deepfm_day_timestamp_seconds": 1767830400,  # date -u -d 2026-01-08 +%s
        "deepfm_day_rows": 10,
        "deepfm_day_rows_bad": 1,
        "deepfm_day_mean_probability": 0.25,
        "deepfm_day_psi": 0.5,
        "deepfm_day_warnings": 2,
    }


def test_of_several_days_the_last_counts():
    days = [DAY, {**DAY, "date": "2026-01-09", "rows_scored": 20}]
    assert values(JobOutcome("score", "ctr", 0, 1.0, {"days": days}))["deepfm_day_rows"] == 20


def test_unknown_metrics_are_left_out():
    assert "deepfm_day_psi" not in values(JobOutcome("score", "ctr", 0, 1.0, {**DAY, "psi": None}))


def test_a_failed_job_has_no_success():
    found = values(JobOutcome("train", "ctr", 2, 1.0, {}, error="no dataset"))
    assert (found["deepfm_job_success"], found["deepfm_job_exit_status"]) == (0, 2)


@pytest.mark.parametrize(("promoted", "expected"), [(True, 1), (False, 0)])
def test_a_compared_candidate_is_promoted_or_not(promoted, expected):
    summary = {"version": "12", "previous_version": "11", "promoted": promoted, "reasons": []}
    found = values(JobOutcome("promote", "ctr", 0, 1.0, summary))
    assert (found["deepfm_candidate_promoted"], found["deepfm_candidate_version"]) == (expected, 12)


def test_trained_and_evaluated_models_have_their_metrics():
    trained = values(JobOutcome("train", "ctr", 0, 1.0, {"test_auc": 0.75, "test_logloss": 0.5}))
    assert (trained["deepfm_model_test_auc"], trained["deepfm_model_test_logloss"]) == (0.75, 0.5)
    evaluated = values(JobOutcome("evaluate", "scores", 0, 1.0, {"auc": 0.75, "calibration": 1.25}))
    assert (evaluated["deepfm_day_live_auc"], evaluated["deepfm_day_live_calibration"]) == (0.75, 1.25)


def test_a_label_is_escaped():
    text = format_metrics(JobOutcome("train", 'a"b\\c\nd', 0, 1.0, {}))
    assert 'deepfm_job_success{job="train",name="a\\"b\\\\c\\nd"} 1\n' in text


def test_each_job_and_name_has_a_file(tmp_path):
    for job, name in (("train", "a/b"), ("train", "a_b"), ("score", "a_b")):
        write_metrics(f"file://{tmp_path}/metrics", JobOutcome(job, name, 0, 1.0, {}))
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == [
        "deepfm_score_a_b.prom", "deepfm_train_a%2Fb.prom", "deepfm_train_a_b.prom",
    ]  # fmt: skip
