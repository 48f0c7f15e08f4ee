"""A run's curves in MLflow: logged while it trains, completed where the store was away for a while."""

import logging
import time

import mlflow
from mlflow.entities import Metric
from mlflow.utils.time import get_current_time_millis

from deepfm.tracking.errors import FAILURES, reason_of

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
_POINTS_AT_ONCE = 1000  # MLflow takes no more in one request

logger = logging.getLogger(__name__)


class MetricBuffer:
    """Points on their way to a run; a store that is away stops no training."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str):
        self._client, self._run_id = client, run_id
        self._waiting: list[Metric] = []
        self._sent: set[tuple[str, int]] = set()  # curve and step
        self._pause_s, self._try_again_at = 0.0, 0.0

    def add(self, axis: str, points: list[dict[str, float]]) -> None:
        """Log points, each {axis: where, curve: value, …}, now or with those that come later."""
        self._waiting += _metrics(axis, points)
        if time.monotonic() < self._try_again_at:
            return
        try:
            self._send()
        except FAILURES as error:
            self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            self._try_again_at = time.monotonic() + self._pause_s
            told = "%d points of curves are not in MLflow yet, training goes on: %s"
            logger.warning(told, len(self._waiting), reason_of(error))
        else:
            self._pause_s = 0.0

    def complete(self, axis: str, points: list[dict[str, float]]) -> None:
        """Log those of all points that the run does not have; raises what MLflow raises."""
        self._send()
        known: dict[str, set[int]] = {}  # of curves that another process has begun
        for point in _metrics(axis, points):
            if (point.key, point.step) in self._sent:
                continue
            if point.key not in known:
                history = self._client.get_metric_history(self._run_id, point.key)
                known[point.key] = {logged.step for logged in history}
            if point.step not in known[point.key]:
                self._waiting.append(point)
        self._send()

    def _send(self) -> None:
        while self._waiting:
            batch = self._waiting[:_POINTS_AT_ONCE]
            self._client.log_batch(self._run_id, metrics=batch)
            self._sent.update((point.key, point.step) for point in batch)
            del self._waiting[:_POINTS_AT_ONCE]


def _metrics(axis: str, points: list[dict[str, float]]) -> list[Metric]:
    now = get_current_time_millis()
    return [
        Metric(name, value, now, int(point[axis]))
        for point in points
        for name, value in point.items()
        if name != axis
    ]
