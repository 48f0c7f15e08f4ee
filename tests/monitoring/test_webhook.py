"""Alerts are posted to a real server."""

import logging

import pytest

from deepfm.monitoring import webhook as module
from deepfm.monitoring.alerts import Alert
from deepfm.monitoring.webhook import post_alerts

FLAGGED = Alert("day_flagged", "score", "ctr", "PSI 0.5", 0, "2026-01-08", "3")
FAILED = Alert("job_failed", "train", "ctr", "workers lost", 1)


@pytest.fixture(autouse=True)
def retry_immediately(monkeypatch, caplog):
    """Do not wait between attempts, and capture what libraries log as well."""
    monkeypatch.setattr(module, "_WAITS_S", (0.0, 0.0))
    caplog.set_level(logging.INFO)


def test_each_alert_is_one_document(webhook):
    post_alerts(webhook.url, [FLAGGED, FAILED], 5.0)
    assert webhook.posted[0] == {
        "text": "score: day flagged: ctr 2026-01-08 v3: PSI 0.5",
        "kind": "day_flagged",
        "job": "score",
        "name": "ctr",
        "message": "PSI 0.5",
        "exit_status": 0,
        "day": "2026-01-08",
        "version": "3",
    }
    assert webhook.posted[1]["text"] == "train: job failed: ctr: workers lost"


def test_a_server_that_is_overloaded_is_asked_again(webhook, caplog):
    webhook.statuses = [503, 429]
    post_alerts(webhook.url, [FAILED], 5.0)
    assert len(webhook.posted) == 3
    assert caplog.text == ""


@pytest.mark.parametrize("status", [302, 404])
def test_a_refusal_is_a_warning_without_the_secret_and_not_repeated(webhook, caplog, status):
    webhook.statuses = [status]
    post_alerts(webhook.url, [FAILED, FLAGGED], 5.0)
    assert len(webhook.posted) == 1
    assert f"the webhook at 127.0.0.1 did not accept 2 alert(s): HTTP status {status}" in caplog.text
    assert "SECRET" not in caplog.text


def test_an_unreachable_server_is_a_warning_without_the_secret(caplog):
    post_alerts("http://127.0.0.1:1/hooks/SECRET", [FAILED], 5.0)
    assert "the webhook at 127.0.0.1 did not accept 1 alert(s): ConnectionError" in caplog.text
    assert "SECRET" not in caplog.text
