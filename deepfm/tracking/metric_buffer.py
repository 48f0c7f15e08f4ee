"""Buffer for the metric curves of a run, so that an unreachable MLflow does not stop a training."""

import logging
import time

import mlflow
from mlflow.entities import Metric

from deepfm.tracking.errors import FAILURES, failure_reason

_FIRST_PAUSE_S, _MAX_PAUSE_S = 5.0, 300.0
_MAX_BATCH = 1000  # limit of MLflow for one request

logger = logging.getLogger(__name__)


class MetricBuffer:
    """Metric points to log to a run, kept while MLflow is unreachable."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str):
        self._client, self._run_id = client, run_id
        self._unsent: list[Metric] = []
        self._sent: set[tuple[str, int]] = set()  # (curve, step)
        self._pause_s, self._next_attempt_at = 0.0, 0.0

    def add(self, axis: str, points: list[dict[str, float]]) -> None:
        """Log points, each {axis: step, curve: value, …}, now or together with later points."""
        self._unsent += _to_metrics(axis, points)
        if time.monotonic() < self._next_attempt_at:
            return
        try:
            self._send()
        except FAILURES as error:
            self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _MAX_PAUSE_S)
            self._next_attempt_at = time.monotonic() + self._pause_s
            message = "%d metric points are not in MLflow yet, training continues: %s"
            logger.warning(message, len(self._unsent), failure_reason(error))
        else:
            self._pause_s = 0.0

    def complete(self, axis: str, points: list[dict[str, float]]) -> None:
        """Log the points that the run does not have yet; MLflow's exceptions are raised."""
        self._send()
        logged_steps: dict[str, set[int]] = {}  # of curves that another process may have started
        for point in _to_metrics(axis, points):
            if (point.key, point.step) in self._sent:
                continue
            if point.key not in logged_steps:
                history = self._client.get_metric_history(self._run_id, point.key)
                logged_steps[point.key] = {logged.step for logged in history}
            if point.step not in logged_steps[point.key]:
                self._unsent.append(point)
        self._send()

    def _send(self) -> None:
        while self._unsent:
            batch = self._unsent[:_MAX_BATCH]
            self._client.log_batch(self._run_id, metrics=batch)
            self._sent.update((point.key, point.step) for point in batch)
            del self._unsent[:_MAX_BATCH]


def _to_metrics(axis: str, points: list[dict[str, float]]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [
        Metric(name, value, now, int(point[axis]))
        for point in points
        for name, value in point.items()
        if name != axis
    ]
