"""Alerts about the outcome of a job: it failed, a day is unusual or missing, a candidate was refused."""

from dataclasses import dataclass
from typing import Any, Literal

#: Jobs whose items are days.
_DAILY_JOBS = ("score", "evaluate")
Kind = Literal["job_failed", "day_not_published", "day_flagged", "candidate_refused"]


@dataclass(frozen=True)
class JobOutcome:
    """Outcome of one job."""

    job: str
    name: str  # of the model, or what else the job works on, see cli.alerts
    exit_status: int
    seconds: float
    summary: dict[str, Any]  # empty if it failed; of a batch, what is done and what "failed"
    error: str = ""  # one line; empty if it is done
    day: str | None = None  # that it was asked for

    @property
    def days(self) -> list[dict[str, Any]]:
        """Summaries of the days that score.py or evaluate.py handled, oldest first."""
        if self.job not in _DAILY_JOBS or not self.summary:
            return []
        return self.summary.get("days", [self.summary])

    @property
    def is_comparison(self) -> bool:
        """Whether promote.py compared a candidate, which is not the champion already."""
        summary = self.summary
        is_champion = not summary.get("promoted") and summary.get("version") == summary.get(
            "previous_version"
        )
        return self.job == "promote" and bool(summary) and not is_champion


@dataclass(frozen=True)
class Alert:
    """Content of one message to the operator."""

    kind: Kind
    job: str
    name: str
    message: str
    exit_status: int
    day: str | None = None
    version: str | None = None


def find_alerts(outcome: JobOutcome) -> list[Alert]:
    """List what the operator must know about an outcome; days published by an earlier job are left out."""
    return [*_failures(outcome), *_flagged_days(outcome), *_refusals(outcome)]


def _failures(outcome: JobOutcome) -> list[Alert]:
    """One alert for a failed job, or one for each failed day of several."""
    if not outcome.exit_status:
        return []
    kind: Kind = "day_not_published" if outcome.job == "score" else "job_failed"
    errors = {outcome.day: outcome.error}
    if outcome.job in _DAILY_JOBS:
        errors = outcome.summary.get("failed", errors)
    return [
        Alert(kind, outcome.job, outcome.name, error, outcome.exit_status, day=day)
        for day, error in errors.items()
    ]


def _flagged_days(outcome: JobOutcome) -> list[Alert]:
    days = outcome.days if outcome.job == "score" else []
    return [
        Alert(
            "day_flagged",
            outcome.job,
            outcome.name,
            "; ".join(day["warnings"]),
            outcome.exit_status,
            day=day["date"],
            version=day["version"],
        )
        for day in days
        if day["published_now"] and day["warnings"]
    ]


def _refusals(outcome: JobOutcome) -> list[Alert]:
    if not outcome.is_comparison or outcome.summary["promoted"]:
        return []
    message, version = "; ".join(outcome.summary["reasons"]), outcome.summary["version"]
    return [Alert("candidate_refused", outcome.job, outcome.name, message, 0, version=version)]
