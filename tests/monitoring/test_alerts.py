"""Outcomes of jobs that the operator must know about."""

from deepfm.monitoring.alerts import Alert, JobOutcome, find_alerts


def day(date, *, warnings=(), published_now=True):
    return {"date": date, "version": "3", "warnings": list(warnings), "published_now": published_now}


def score_outcome(**summary):
    return JobOutcome("score", "ctr", 0, 1.0, summary)


def promote_outcome(*, promoted, previous_version="1"):
    decision = {"promoted": promoted, "previous_version": previous_version, "reasons": ["a", "b"]}
    return JobOutcome("promote", "ctr", 0, 1.0, {"version": "2", **decision})


def test_a_finished_job_is_no_alert():
    assert find_alerts(JobOutcome("train", "ctr", 0, 1.0, {"version": "2"})) == []
    assert find_alerts(score_outcome(**day("2026-01-08"))) == []
    assert find_alerts(promote_outcome(promoted=True)) == []


def test_a_failed_job_is_an_alert():
    outcome = JobOutcome("train", "ctr", 1, 1.0, {}, error="workers lost")
    assert find_alerts(outcome) == [Alert("job_failed", "train", "ctr", "workers lost", 1)]


def test_a_failed_scoring_is_an_alert_about_the_day():
    outcome = JobOutcome("score", "ctr", 2, 1.0, {}, error="drift", day="2026-01-08")
    expected = Alert("day_not_published", "score", "ctr", "drift", 2, day="2026-01-08")
    assert find_alerts(outcome) == [expected]


def test_a_flagged_day_is_an_alert_once():
    flagged = day("2026-01-08", warnings=["PSI 0.5", "site: PSI 0.4"])
    expected = Alert("day_flagged", "score", "ctr", "PSI 0.5; site: PSI 0.4", 0, "2026-01-08", "3")
    assert find_alerts(score_outcome(**flagged)) == [expected]
    assert find_alerts(score_outcome(**flagged | {"published_now": False})) == []


def test_each_flagged_day_of_several_is_an_alert():
    days = [day("2026-01-07", warnings=["a"]), day("2026-01-08"), day("2026-01-09", warnings=["b"])]
    alerts = find_alerts(score_outcome(days=days, published_now=3))
    assert [(alert.day, alert.message) for alert in alerts] == [("2026-01-07", "a"), ("2026-01-09", "b")]


def test_each_failed_day_of_several_is_an_alert_next_to_the_flagged_ones():
    failed = {"2026-01-08": "no input", "2026-01-09": "drift"}
    summary = {"days": [day("2026-01-07", warnings=["a"])], "failed": failed}
    alerts = find_alerts(JobOutcome("score", "ctr", 2, 1.0, summary, error="2 of 3 days failed"))
    assert [(alert.kind, alert.day, alert.message, alert.exit_status) for alert in alerts] == [
        ("day_not_published", "2026-01-08", "no input", 2),
        ("day_not_published", "2026-01-09", "drift", 2),
        ("day_flagged", "2026-01-07", "a", 2),
    ]


def test_a_warning_of_an_evaluated_day_is_no_drift():
    assert find_alerts(JobOutcome("evaluate", "scores", 0, 1.0, day("2026-01-08", warnings=["a"]))) == []


def test_a_refused_candidate_is_an_alert():
    expected = Alert("candidate_refused", "promote", "ctr", "a; b", 0, version="2")
    assert find_alerts(promote_outcome(promoted=False)) == [expected]


def test_a_candidate_that_is_champion_already_is_no_alert():
    assert find_alerts(promote_outcome(promoted=False, previous_version="2")) == []
