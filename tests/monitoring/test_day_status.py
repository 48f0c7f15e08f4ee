"""State of the scored days of a model."""

import json

import pytest

from deepfm.errors import UserError
from deepfm.monitoring.day_status import days_status
from deepfm.scoring.daily_runs import log_live_metrics, log_scoring_day
from deepfm.scoring.days import DRIFT, PROVENANCE, Provenance, PublishedDay


def log(store, name, day, **metrics):
    log_scoring_day(store, name, day, tags={"version": "3", "flagged": "false"}, metrics=metrics, report=None)


@pytest.fixture
def publish(tmp_path):
    """Function: write the files of a published day -> URL of the folder of days."""

    def write(day, name, *, warnings=(), psi=0.1):
        folder = tmp_path / f"ds={day}"
        folder.mkdir()
        published = PublishedDay(Provenance(name, "3"), 10, 1, 0.25, warnings=warnings)
        (folder / PROVENANCE).write_text(json.dumps(published.to_document()))
        (folder / DRIFT).write_text(json.dumps({"psi": psi}))
        return f"file://{tmp_path}"

    return write


def test_a_model_that_never_scored_has_no_days_and_gets_no_experiment(store):
    status = days_status(store, "never_scored", None, num_days=7, until=None)
    assert (status.days, status.missing) == ((), ())
    assert store.client.get_experiment_by_name("never_scored-days") is None


def test_logged_days_have_their_drift_and_live_metrics(store):
    log(store, "logged", "2026-01-08", rows_scored=10, rows_bad=1, mean_probability=0.25, psi=0.5)
    log(store, "logged", "2026-01-09", rows_scored=20, rows_bad=0, mean_probability=0.5, num_warnings=2)
    live = {"ctr": 0.2, "calibration": 1.25, "auc": 0.75, "logloss": 0.4}
    log_live_metrics(store, "logged", "2026-01-08", live)
    first, last = days_status(store, "logged", None, num_days=7, until=None).days
    assert (first.version, first.rows_scored, first.rows_bad, first.psi) == ("3", 10, 1, 0.5)
    assert {key: getattr(first, key) for key in live} == live
    assert (last.num_warnings, last.psi, last.auc) == (2, None, None)


def test_days_between_the_first_and_the_last_are_missing(store):
    for day in ("2026-01-05", "2026-01-08"):
        log(store, "gaps", day, rows_scored=1)
    status = days_status(store, "gaps", None, num_days=2, until=None)
    assert status.shown == ("2026-01-07", "2026-01-08")
    assert [day.day for day in status.days] == ["2026-01-08"]
    assert status.missing == ("2026-01-06", "2026-01-07")
    assert status.without_labels == ("2026-01-08",)


def test_days_up_to_the_given_one_are_missing_too(store):
    for day in ("2026-01-05", "2026-01-08"):
        log(store, "until", day, rows_scored=1)
    assert days_status(store, "until", None, num_days=7, until="2026-01-10").missing == (
        "2026-01-06", "2026-01-07", "2026-01-09", "2026-01-10",
    )  # fmt: skip
    assert days_status(store, "until", None, num_days=7, until="2026-01-06").missing == ("2026-01-06",)


def test_published_days_have_their_warnings_and_the_live_metrics_of_mlflow(store, publish):
    publish("2026-01-08", "published", warnings=("scores: PSI 0.500 is above 0.25",), psi=0.5)
    url = publish("2026-01-09", "another")
    log_live_metrics(store, "published", "2026-01-08", {"auc": 0.75, "logloss": 0.4})
    first, last = days_status(store, "published", url, num_days=7, until=None).days
    assert (first.rows_scored, first.rows_bad, first.psi, first.auc) == (10, 1, 0.5, 0.75)
    assert first.warnings == ("scores: PSI 0.500 is above 0.25",) and first.num_warnings == 1
    assert (last.name, last.version, last.warnings) == ("another", "3", ())


def test_a_folder_of_another_program_is_a_missing_day(store, publish, tmp_path, caplog):
    url = publish("2026-01-08", "foreign")
    (tmp_path / "ds=2026-01-09").mkdir()
    status = days_status(store, "foreign", url, num_days=7, until=None)
    assert status.missing == ("2026-01-09",)
    assert "expected a day that score.py published" in caplog.text


def test_a_missing_folder_of_scores_is_an_error_of_the_user(store, tmp_path):
    with pytest.raises(UserError, match="--scores: expected a folder of published days"):
        days_status(store, "absent", f"file://{tmp_path}/absent", num_days=7, until=None)
