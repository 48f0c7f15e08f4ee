"""Published nights as runs of MLflow, so that they can be plotted one after the other."""

import logging
import math

import pandas as pd
from matplotlib.figure import Figure

from deepfm.errors import UserError
from deepfm.tracking.errors import FAILURES, reason_of
from deepfm.tracking.store import MlflowStore

logger = logging.getLogger(__name__)


def log_scoring_day(
    store: MlflowStore,
    name: str,
    day: str,
    *,
    tags: dict[str, str],
    figures: dict[str, float],
    page: str | None,
) -> None:
    """Log a night of the model `name` into the experiment NAME-nights.

    Nothing stops a night that is published: the day stands, and its report beside it.
    """
    try:
        with store.run(f"{name}-nights", name=day, tags={"day": day, **tags}) as run:
            run.log_metrics(figures)
            if page is not None:
                run.log_text(page, "report.html")
    except (*FAILURES, UserError, OSError) as error:
        logger.warning("%s is published but not logged at %s: %s", day, store.uri, reason_of(error))


def log_live_metrics(
    store: MlflowStore, name: str, day: str, figures: dict[str, float]
) -> list[tuple[str, dict]]:
    """Log how good a night really was, with the trend of all nights so far -> (day, figures) of those.

    A night that is evaluated again counts with its last figures.
    """
    experiment = f"{name}-nights"
    with store.run(experiment, name=f"{day} with labels", tags={"day": day, "labels": "true"}) as run:
        run.log_metrics({f"live_{key}": value for key, value in figures.items()})
        nights: dict[str, dict] = {}
        for found in store.find_runs(experiment, "tags.labels = 'true'"):  # the newest first
            known = {key.removeprefix("live_"): value for key, value in found.data.metrics.items()}
            nights.setdefault(found.data.tags["day"], known)
        nights[day] = figures
        trend = sorted(nights.items())
        run.log_figure(_trend(trend), "trend.png")
    return trend


def daily_metrics(store: MlflowStore, name: str) -> pd.DataFrame:
    """The nights of the model `name`, a row a day: figures, drift and, where labels have come, live_….

    `version`: which scored it; `flagged`: whether it was beyond a limit of drift. A night that was scored or
    evaluated again counts with its last figures.
    """
    rows: dict[str, dict] = {}
    for run in reversed(store.find_runs(f"{name}-nights", "attributes.status = 'FINISHED'")):  # oldest first
        tags = run.data.tags
        row = rows.setdefault(tags["day"], {"day": tags["day"]})
        if "version" in tags:
            row |= {"version": tags["version"], "flagged": tags["flagged"] == "true"}
        row |= run.data.metrics
    return pd.DataFrame([rows[day] for day in sorted(rows)])


def _trend(nights: list[tuple[str, dict]]) -> Figure:
    figure = Figure(figsize=(min(6 + 0.3 * len(nights), 14), 6), layout="constrained")
    panels = ("auc", "logloss", "calibration")
    for axes, key in zip(figure.subplots(len(panels), 1, sharex=True), panels, strict=True):
        axes.plot([day for day, _ in nights], [found.get(key, math.nan) for _, found in nights], marker="o")
        axes.set_title(key)
        axes.tick_params(axis="x", rotation=60)
    return figure
