"""Published days as runs of one MLflow experiment per model, with metrics that can be plotted over time."""

import logging
import math

import pandas as pd
from matplotlib.figure import Figure

from deepfm import storage
from deepfm.errors import JobFailedError, UserError
from deepfm.scoring.days import REPORT, PublishedDay, read_drift
from deepfm.tracking.errors import FAILURES, failure_reason
from deepfm.tracking.run import DatasetMetrics
from deepfm.tracking.store import MlflowStore

logger = logging.getLogger(__name__)


def days_experiment(name: str) -> str:
    """Experiment that holds the scored days of the model `name`."""
    return f"{name}-days"


def log_published_day(store: MlflowStore, published_url: str, day: str, published: PublishedDay) -> None:
    """Log a day's metrics, drift and report; a failure is logged as a warning."""
    provenance = published.provenance
    tags = {
        "version": provenance.version,
        "model_digest": provenance.model_digest,
        "input_digest": published.input_digest,
        "flagged": str(bool(published.warnings)).lower(),
    }
    metrics = {
        "rows_scored": float(published.rows_scored),
        "rows_bad": float(published.rows_bad),
        "mean_probability": published.mean_probability,
        "num_warnings": float(len(published.warnings)),
    }
    report = None
    if drift := read_drift(published_url):
        metrics |= {"psi": drift["psi"], "ks": drift["ks"]}
        metrics |= {f"psi.{field['name']}": field["psi"] for field in drift["fields"]}
        report = storage.read_bytes(f"{published_url}/{REPORT}").decode()
    log_scoring_day(store, provenance.name, day, tags=tags, metrics=metrics, report=report)


def log_scoring_day(
    store: MlflowStore,
    name: str,
    day: str,
    *,
    tags: dict[str, str],
    metrics: dict[str, float],
    report: str | None,
) -> None:
    """Log a day of the model `name` to its experiment; `report` is an HTML page.

    A failure is logged as a warning: the day is published, and its report is stored with it.
    """
    try:
        with store.run(days_experiment(name), name=day, tags={"day": day, **tags}) as run:
            run.log_metrics(metrics)
            if report is not None:
                run.log_text(report, "report.html")
    except (*FAILURES, UserError, JobFailedError, OSError) as error:
        logger.warning("%s is published but not logged at %s: %s", day, store.uri, failure_reason(error))


def log_live_metrics(
    store: MlflowStore,
    name: str,
    day: str,
    metrics: dict[str, float],
    *,
    model_id: str | None = None,
    input_digest: str = "",
) -> list[tuple[str, dict]]:
    """Log a day's metrics on its labels, with a plot of all days so far -> (day, metrics) of these days.

    `model_id`: logged model that scored the day; its page shows the metrics with the day as dataset. For a
    day that was evaluated again, the latest metrics count.
    """
    experiment = days_experiment(name)
    with store.run(experiment, name=f"{day} with labels", tags={"day": day, "labels": "true"}) as run:
        live_metrics = {f"live_{key}": value for key, value in metrics.items()}
        run.log_metrics(live_metrics)
        run.log_model_metrics(model_id, [DatasetMetrics(day, input_digest or day, live_metrics)])
        by_day: dict[str, dict] = {}
        for logged in store.find_runs(experiment, "tags.labels = 'true'"):  # newest first
            live = {key.removeprefix("live_"): value for key, value in logged.data.metrics.items()}
            by_day.setdefault(logged.data.tags["day"], live)
        by_day[day] = metrics
        trend = sorted(by_day.items())
        run.log_figure(_plot_trend(trend), "trend.png")
    return trend


def daily_metrics(store: MlflowStore, name: str) -> pd.DataFrame:
    """Table of the scored days of the model `name`, one row a day: metrics, drift and, with labels, live_….

    `version`: model version that scored the day; `flagged`: whether it exceeded a drift limit. For a day that
    was scored or evaluated again, the latest metrics count.
    """
    rows: dict[str, dict] = {}
    runs = store.find_runs(days_experiment(name), "attributes.status = 'FINISHED'")
    for run in reversed(runs):  # oldest first
        tags = run.data.tags
        row = rows.setdefault(tags["day"], {"day": tags["day"]})
        if "version" in tags:
            row |= {"version": tags["version"], "flagged": tags["flagged"] == "true"}
        row |= run.data.metrics
    return pd.DataFrame([rows[day] for day in sorted(rows)])


def _plot_trend(trend: list[tuple[str, dict]]) -> Figure:
    figure = Figure(figsize=(min(6 + 0.3 * len(trend), 14), 6), layout="constrained")
    panels = ("auc", "logloss", "calibration")
    days = [day for day, _ in trend]
    for axes, key in zip(figure.subplots(len(panels), 1, sharex=True), panels, strict=True):
        axes.plot(days, [metrics.get(key, math.nan) for _, metrics in trend], marker="o")
        axes.set_title(key)
        axes.tick_params(axis="x", rotation=60)
    return figure
