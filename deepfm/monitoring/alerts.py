"""Alerts about the outcome of a job: it failed, a day is unusual or missing, a candidate was refused."""

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["job_failed", "day_not_published", "day_flagged", "candidate_refused"]


@dataclass(frozen=True)
class JobOutcome:
    """Outcome of one job."""

    job: str
    name: str  # of the model, or what else the job works on, see cli.alerts
    exit_status: int
    seconds: float
    summary: dict[str, Any]  # empty if it failed
    error: str = ""  # one line; empty if it is done
    day: str | None = None  # that it was asked for

    @property
    def days(self) -> list[dict[str, Any]]:
        """Summaries of the days that score.py handled, oldest first."""
        if self.job != "score" or not self.summary:
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
    who = (outcome.job, outcome.name)
    if outcome.exit_status:
        kind: Kind = "day_not_published" if outcome.job == "score" else "job_failed"
        return [Alert(kind, *who, outcome.error, outcome.exit_status, day=outcome.day)]
    if outcome.is_comparison and not outcome.summary["promoted"]:
        message = "; ".join(outcome.summary["reasons"])
        return [Alert("candidate_refused", *who, message, 0, version=outcome.summary["version"])]
    return [
        Alert("day_flagged", *who, "; ".join(day["warnings"]), 0, day=day["date"], version=day["version"])
        for day in outcome.days
        if day["published_now"] and day["warnings"]
    ]
