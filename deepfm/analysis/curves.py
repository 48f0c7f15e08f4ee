"""Metric curves of MLflow runs as a table."""

import pandas as pd

from deepfm.tracking.entities import MlflowRun
from deepfm.tracking.store import MlflowStore


def training_curves(store: MlflowStore, runs: dict[str, MlflowRun], metrics: list[str]) -> pd.DataFrame:
    """Return the columns (run, epoch, metric…), one row per run and epoch; NaN if a curve has no point.

    `runs`: by the name to show. The curves of a comparison's seeds are named seed_N/NAME.
    """
    points = [
        (name, point.step, metric, point.value)
        for name, run in runs.items()
        for metric in metrics
        for point in store.client.get_metric_history(run.info.run_id, metric)
    ]
    table = pd.DataFrame(points, columns=["run", "epoch", "metric", "value"])
    by_epoch = table.pivot_table(index=["run", "epoch"], columns="metric", values="value", sort=False)
    return by_epoch.reindex(columns=metrics).rename_axis(columns=None).reset_index()
