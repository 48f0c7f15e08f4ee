"""Logged days are read back as a table."""

import math

from deepfm.scoring.daily_runs import daily_metrics, log_live_metrics, log_scoring_day


def log(store, name, day, version="1", **metrics):
    tags = {"version": version, "flagged": str(metrics.get("psi", 0) > 0.25).lower()}
    log_scoring_day(store, name, day, tags=tags, metrics=metrics, report=None)


def test_a_row_holds_a_day_with_its_drift_and_its_live_metrics(store):
    log(store, "read_back", "2026-01-09", psi=0.5)
    log(store, "read_back", "2026-01-08", psi=0.01)
    log_live_metrics(store, "read_back", "2026-01-08", {"auc": 0.75})
    table = daily_metrics(store, "read_back")
    assert table["day"].tolist() == ["2026-01-08", "2026-01-09"]
    assert table["flagged"].tolist() == [False, True]
    assert table["psi"].tolist() == [0.01, 0.5]
    assert table["live_auc"][0] == 0.75 and math.isnan(table["live_auc"][1])


def test_the_latest_metrics_of_a_day_that_was_scored_again_count(store):
    for version, psi in (("1", 0.5), ("2", 0.01)):
        log(store, "scored_again", "2026-01-08", version, psi=psi)
    (day,) = daily_metrics(store, "scored_again").to_dict("records")
    assert (day["version"], day["psi"], day["flagged"]) == ("2", 0.01, False)


def test_a_day_that_cannot_be_logged_stays_published(store, caplog):
    log(store, "gone", "2026-01-08", psi=0.5)
    store.client.delete_experiment(store.client.get_experiment_by_name("gone-days").experiment_id)
    log(store, "gone", "2026-01-09", psi=0.5)
    assert "2026-01-09 is published but not logged" in caplog.text
