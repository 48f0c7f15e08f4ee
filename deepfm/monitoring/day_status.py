"""State of the scored days of a model: counts, drift, live metrics, and days that are missing."""

import logging
import math
from dataclasses import dataclass
from typing import Any

from deepfm import storage
from deepfm.click_log.labels_and_days import is_day
from deepfm.click_log.split import days_between
from deepfm.errors import UserError
from deepfm.scoring.daily_runs import daily_metrics
from deepfm.scoring.days import published_day, published_url, read_drift
from deepfm.tracking.store import MlflowStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DayStatus:
    """State of one scored day; None for what is unknown, such as live metrics before the labels arrive."""

    day: str
    name: str
    version: str | None
    rows_scored: int | None
    rows_bad: int | None
    mean_probability: float | None
    psi: float | None  # of the scores
    num_warnings: int | None  # limits of drift that the day exceeds
    warnings: tuple[str, ...]  # their texts, which only a published day has
    ctr: float | None
    calibration: float | None
    auc: float | None
    logloss: float | None


@dataclass(frozen=True)
class DaysStatus:
    """State of the last scored days."""

    shown: tuple[str, ...]  # the last calendar days, oldest first, scored or not
    days: tuple[DayStatus, ...]  # those of them that were scored
    missing: tuple[str, ...]  # not scored, between the first scored day and the last day
    without_labels: tuple[str, ...]  # days in `days` that were not evaluated on labels


def days_status(
    store: MlflowStore, name: str, scores_url: str | None, *, num_days: int, until: str | None
) -> DaysStatus:
    """Read the state of the `num_days` calendar days up to `until`, by default the last scored day.

    With `scores_url`, the published days of this folder count; without, those logged in MLflow.
    """
    logged = {row["day"]: row for row in daily_metrics(store, name).to_dict("records")}
    scored = sorted(_published_days(scores_url) if scores_url else logged)
    if until is not None:
        scored = [day for day in scored if day <= until]
    if not scored:
        return DaysStatus((), (), (), ())
    calendar = days_between(scored[0], until or scored[-1])
    shown = calendar[-num_days:]
    days = []
    for day in shown:
        row = logged.get(day, {})
        status = _read_published(scores_url, day, row) if scores_url else _from_logged(name, day, row)
        if status is not None and day in scored:
            days.append(status)
    readable = set(scored) - (set(shown) - {status.day for status in days})
    return DaysStatus(
        shown=tuple(shown),
        days=tuple(days),
        missing=tuple(day for day in calendar if day not in readable),
        without_labels=tuple(status.day for status in days if status.logloss is None),
    )


def _published_days(scores_url: str) -> list[str]:
    if not storage.is_folder(scores_url):
        raise UserError(f"--scores: expected a folder of published days, found none at {scores_url}")
    names = [child["name"] for child in storage.children(scores_url)]
    days = [name.removeprefix("ds=") for name in names if name.startswith("ds=")]
    return [day for day in days if is_day(day)]


def _read_published(scores_url: str, day: str, row: dict[str, Any]) -> DayStatus | None:
    """Read a day's folder; None if there is none, or if it holds something else, which is logged."""
    try:
        published = published_day(scores_url, day)
    except UserError as error:
        logger.warning("%s", error)
        return None
    if published is None:
        return None
    drift = read_drift(published_url(scores_url, day))
    return DayStatus(
        day=day,
        name=published.provenance.name,
        version=published.provenance.version,
        rows_scored=published.rows_scored,
        rows_bad=published.rows_bad,
        mean_probability=published.mean_probability,
        psi=drift["psi"] if drift else None,
        num_warnings=len(published.warnings),
        warnings=published.warnings,
        **_live_metrics(row),
    )


def _from_logged(name: str, day: str, row: dict[str, Any]) -> DayStatus:
    version = row.get("version")
    return DayStatus(
        day=day,
        name=name,
        version=version if isinstance(version, str) else None,  # NaN: only evaluated
        rows_scored=_as_int(_number(row, "rows_scored")),
        rows_bad=_as_int(_number(row, "rows_bad")),
        mean_probability=_number(row, "mean_probability"),
        psi=_number(row, "psi"),
        num_warnings=_as_int(_number(row, "num_warnings")),
        warnings=(),
        **_live_metrics(row),
    )


def _live_metrics(row: dict[str, Any]) -> dict[str, float | None]:
    return {key: _number(row, f"live_{key}") for key in ("ctr", "calibration", "auc", "logloss")}


def _number(row: dict[str, Any], key: str) -> float | None:
    """Return a metric of the table of days, which has NaN where a day has none."""
    value = row.get(key, math.nan)
    return None if math.isnan(value) else float(value)


def _as_int(value: float | None) -> int | None:
    return None if value is None else int(value)
