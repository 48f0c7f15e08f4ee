"""Delivery of alerts to a webhook, one JSON POST each."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

import requests

from deepfm.monitoring.alerts import Alert

logger = logging.getLogger(__name__)

#: Seconds to wait before each further attempt.
_WAITS_S = (1.0, 3.0)
#: Statuses of a server that may accept the same request later.
_RETRIED_STATUSES = (429, *range(500, 600))


def post_alerts(url: str, alerts: Sequence[Alert], timeout_s: float) -> None:
    """Send each alert; log a warning and send no further one if the server does not accept it.

    `timeout_s`: seconds to wait for a connection, and for an answer. The URL is a secret: messages name its
    host only.
    """
    for index, alert in enumerate(alerts):
        if reason := _post(url, alert, timeout_s):
            host = urlsplit(url).hostname
            num_unsent = len(alerts) - index
            logger.warning("the webhook at %s did not accept %d alert(s): %s", host, num_unsent, reason)
            return


def _post(url: str, alert: Alert, timeout_s: float) -> str:
    """Send an alert, if necessary several times; return why it was not accepted, empty if it was."""
    reason = ""
    for wait_s in (0.0, *_WAITS_S):
        time.sleep(wait_s)
        try:
            # A redirect would turn the POST into a GET without content.
            response = requests.post(url, json=_content(alert), timeout=timeout_s, allow_redirects=False)
        except requests.exceptions.RequestException as error:
            reason = type(error).__name__  # its text contains the URL
            continue
        if response.status_code < 300:
            return ""
        reason = f"HTTP status {response.status_code}"
        if response.status_code not in _RETRIED_STATUSES:
            break
    return reason


def _content(alert: Alert) -> dict:
    """Content of the POST; Slack, Mattermost and Teams show `text`."""
    subject = " ".join(
        part for part in (alert.name, alert.day, alert.version and f"v{alert.version}") if part
    )
    text = f"{alert.job}: {alert.kind.replace('_', ' ')}: {subject}: {alert.message}"
    return {"text": text, **asdict(alert)}
