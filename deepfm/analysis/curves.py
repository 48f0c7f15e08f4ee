"""The curves of runs, read back from MLflow as a table."""

import pandas as pd

from deepfm.tracking.entities import MlflowRun
from deepfm.tracking.store import MlflowStore


def training_curves(store: MlflowStore, runs: dict[str, MlflowRun], metrics: list[str]) -> pd.DataFrame:
    """Runs by the name they shall have -> (run, epoch, metric…), a row an epoch; nan where one has no point.

    Curves of a comparison's seeds are called seed_N/NAME there.
    """
    points = [
        (name, point.step, metric, point.value)
        for name, run in runs.items()
        for metric in metrics
        for point in store.client.get_metric_history(run.info.run_id, metric)
    ]
    table = pd.DataFrame(points, columns=["run", "epoch", "metric", "value"])
    wide = table.pivot_table(index=["run", "epoch"], columns="metric", values="value", sort=False)
    return wide.reindex(columns=metrics).rename_axis(columns=None).reset_index()
