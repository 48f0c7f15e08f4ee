"""Report of a job's outcome to the webhook and the Prometheus file of the profile's `alerts` section."""

import logging
import os
from typing import Any

from deepfm import storage
from deepfm.errors import UserError
from deepfm.monitoring.alerts import JobOutcome, find_alerts
from deepfm.monitoring.prometheus import write_metrics
from deepfm.settings.conf_files import load_profile
from deepfm.settings.deployment import AlertSettings
from deepfm.settings.loader import parse_settings

logger = logging.getLogger(__name__)

#: Environment variable with the URL of the webhook, which may contain a token; overrides the profile.
WEBHOOK_VARIABLE = "DEEPFM_ALERT_WEBHOOK"
#: Reported jobs, and the flag that says what each works on. Other commands are called by hand.
_SUBJECTS = {
    "build_features": "output_path",
    "train": "name",
    "compare": "experiment",
    "tune": "experiment",
    "promote": "name",
    "score": "model_uri",
    "evaluate": "scores_path",
}
#: Flags of calls that somebody makes by hand and sees the outcome of.
_CALLS_BY_HAND = ("dry_run", "history", "rollback")


def report_outcome(
    job: str,
    flags: dict[str, Any],
    seconds: float,
    *,
    summary: dict[str, Any] | None = None,
    error: str = "",
    exit_status: int = 0,
) -> None:
    """Write the metrics of a job and send its alerts; a failure is logged as a warning."""
    if job not in _SUBJECTS or any(flags.get(flag) for flag in _CALLS_BY_HAND):
        return
    name, day = _subject(str(flags.get(_SUBJECTS[job]) or "")), _requested_day(flags)
    outcome = JobOutcome(job, name, exit_status, seconds, summary or {}, error, day)
    try:
        _deliver(outcome, _alert_settings(flags["profile_path"]))
    except Exception as failure:  # whatever happens here, the job's own exit status counts
        reason = str(failure) if isinstance(failure, UserError) else type(failure).__name__
        logger.warning("the outcome of this job is not reported: %s", reason)


def _deliver(outcome: JobOutcome, settings: AlertSettings) -> None:
    alerts = find_alerts(outcome)
    if settings.webhook and alerts:
        from deepfm.monitoring.webhook import post_alerts  # imports requests, which few jobs need

        post_alerts(settings.webhook, alerts, settings.timeout_s)
    if settings.prometheus_dir:
        write_metrics(storage.absolute_url(settings.prometheus_dir), outcome)


def _alert_settings(profile_path: str) -> AlertSettings:
    """Read the settings; the job may have failed because its profile is invalid."""
    try:
        settings = load_profile(profile_path).alerts
    except UserError:
        settings = AlertSettings()
    if webhook := os.environ.get(WEBHOOK_VARIABLE):
        changed = {**settings.model_dump(), "webhook": webhook}
        settings = parse_settings(changed, AlertSettings, WEBHOOK_VARIABLE)
    return settings


def _subject(value: str) -> str:
    """Model of models:/NAME@ALIAS or models:/NAME/VERSION, last folder of a path, or the name itself."""
    if value.startswith("models:/"):
        value = value.removeprefix("models:/")
        return value.partition("@")[0] if "@" in value else value.rpartition("/")[0]
    return value.rstrip("/").rpartition("/")[2]


def _requested_day(flags: dict[str, Any]) -> str | None:
    days = [day for day in (flags.get("date"), flags.get("first"), flags.get("last")) if day]
    return " to ".join(days) or None
