"""Progress of a training: rank 0 sends it, the driver shows it and logs the metrics."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepfm.launch.placement import WorkerPlacement
from deepfm.launch.run_channel import RunChannel, background_thread
from deepfm.launch.step_metrics import StepMetrics
from deepfm.training.schedule import EpochSteps

MESSAGE = "progress"
_SEND_EVERY_S = 1.0
_MAX_POINTS = 2000  # kept for a driver that reads late
_LOG_EVERY_S = 60.0

logger = logging.getLogger(__name__)


class ProgressWriter:
    """Sends the progress of rank 0: the current step about once a second, and each finished epoch."""

    def __init__(self, channel: RunChannel, placements: Sequence[WorkerPlacement] = ()):
        self._channel = channel
        self._state: dict = {"epochs": [], "points": [], "placements": [asdict(p) for p in placements]}
        self._sent_at = 0.0
        self._steps, self._step_metrics = EpochSteps(), StepMetrics(EpochSteps())

    def start(self, *, steps: EpochSteps, max_epochs: int, prefix: str = "") -> None:
        """Start a training; a run may have two in sequence. `prefix`: of the metric names."""
        kept = {key: self._state[key] for key in ("epochs", "points", "placements")}
        self._state = {"steps_per_epoch": steps.per_epoch, "max_epochs": max_epochs, **kept}
        self._steps, self._step_metrics = steps, StepMetrics(steps, prefix)
        self._send()
        self._sent_at = 0.0  # so that the first step is sent

    def on_step(self, epoch: int, step: int, logloss: float, samples_per_s: float) -> None:
        """Record a finished step; `logloss` is the mean of the epoch so far."""
        point = self._step_metrics.point(epoch, step, logloss)
        if point:
            self._state["points"] = [*self._state["points"][1 - _MAX_POINTS :], point]
        if time.monotonic() - self._sent_at >= _SEND_EVERY_S:
            num_steps = self._steps.in_epoch(epoch)
            self._send(
                epoch=epoch, step=step, num_steps=num_steps, logloss=logloss, samples_per_s=samples_per_s
            )

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Record a finished epoch."""
        self._state["epochs"].append(metrics)
        self._send()

    def _send(self, **state) -> None:
        self._state.update(state)
        self._channel.send(MESSAGE, self._state)
        self._sent_at = time.monotonic()


@contextmanager
def monitor_progress(
    run_url: str,
    on_epoch: Callable[[dict[str, float]], None],
    on_steps: Callable[[list[dict[str, float]]], None] = lambda points: None,
    poll_every_s: float = _SEND_EVERY_S,
) -> Iterator[None]:
    """Show the progress of rank 0 on stderr during the block and pass on new metrics.

    `on_epoch` receives each finished epoch, `on_steps` the metrics within epochs. `poll_every_s` is shorter
    than the default if rank 0 waits for an answer to a finished epoch.
    """
    channel = RunChannel(run_url)
    channel.clear(MESSAGE)  # of an interrupted training of the same run
    monitor = _ProgressMonitor(channel, on_epoch, on_steps)

    def work(stop: threading.Event) -> None:
        is_last = False
        while not is_last:
            is_last = stop.wait(poll_every_s)  # one more poll after the block ended
            monitor.poll()
        monitor.close()

    with background_thread(work, "progress"):
        yield


class _ProgressMonitor:
    """Reads the progress of rank 0 and passes on what is new."""

    def __init__(
        self,
        channel: RunChannel,
        on_epoch: Callable[[dict[str, float]], None],
        on_steps: Callable[[list[dict[str, float]]], None],
    ):
        self._channel, self._on_epoch, self._on_steps = channel, on_epoch, on_steps
        self._display = _Bar() if sys.stderr.isatty() else _LogLines()
        self._seen: set[tuple] = set()
        self._is_placement_logged = False

    def poll(self) -> None:
        # A tracking server that fails for a moment must not cost the metrics of all later epochs.
        try:
            state = self._channel.receive(MESSAGE)
            if state is not None:
                self._handle(state)
        except Exception as error:
            logger.warning("progress could not be logged, the training continues: %s", error)

    def _handle(self, state: dict) -> None:
        if not self._is_placement_logged:
            log_placement(WorkerPlacement(**placement) for placement in state["placements"])
            self._is_placement_logged = True
        self._display.show(state)
        # Identified by their content, because restarted workers send only their own epochs.
        for metrics in self._unseen(state["epochs"]):
            self._on_epoch(metrics)
            log_epoch_metrics(metrics)
            self._seen.add(_key(metrics))
        points = self._unseen(state["points"])
        if points:
            self._on_steps(points)
            self._seen.update(map(_key, points))

    def _unseen(self, points: list[dict[str, float]]) -> list[dict[str, float]]:
        return [point for point in points if _key(point) not in self._seen]

    def close(self) -> None:
        self._display.close()


def _key(point: dict[str, float]) -> tuple:
    """Identity of a point: its axis, position and metric names."""
    axis = "epoch" if "epoch" in point else "step"
    return (axis, point[axis], *sorted(point))


def read_step_metrics(run_url: str) -> list[dict[str, float]]:
    """Read the metrics within epochs that the last workers of a run sent."""
    state = RunChannel(run_url).receive(MESSAGE)
    return state["points"] if state else []


def log_placement(placements: Iterable[WorkerPlacement]) -> None:
    """Log host and device of each rank."""
    for placement in placements:
        logger.info("rank=%d host=%s device=%s", placement.rank, placement.host, placement.device)


def log_epoch_metrics(metrics: dict[str, float]) -> None:
    """Log the metrics of an epoch as name=value pairs."""
    values = [f"{name}={value:.5g}" for name, value in metrics.items() if name != "epoch"]
    logger.info("epoch=%d %s", metrics["epoch"], " ".join(values))


def _max_remaining_steps(state: dict) -> int:
    later_epochs = state["max_epochs"] - state["epoch"]
    return later_epochs * state["steps_per_epoch"] + state["num_steps"] - state["step"]


class _Bar:
    """Progress bar for a terminal."""

    def __init__(self):
        columns = [
            TextColumn("epoch {task.fields[epoch]}/{task.fields[max_epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[samples_per_s]:,.0f} samples/s  logloss {task.fields[logloss]:.4f}"),
            TimeRemainingColumn(),
        ]
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = None

    def show(self, state: dict) -> None:
        if "step" not in state:
            return
        fields = {key: state[key] for key in ("epoch", "max_epochs", "samples_per_s", "logloss")}
        total = state["steps_per_epoch"] * state["max_epochs"]
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("train", total=total, **fields)
        completed = total - _max_remaining_steps(state)
        self._progress.update(self._task, completed=completed, total=total, **fields)

    def close(self) -> None:
        self._progress.stop()


class _LogLines:
    """One log line per minute, for a log file."""

    def __init__(self):
        self._logged_at = time.monotonic()

    def show(self, state: dict) -> None:
        if "step" not in state or time.monotonic() - self._logged_at < _LOG_EVERY_S:
            return
        self._logged_at = time.monotonic()
        keys = ("epoch", "max_epochs", "step", "num_steps", "samples_per_s", "logloss")
        logger.info(
            "epoch=%d/%d step=%d/%d samples_per_s=%.0f logloss=%.4f max_remaining_steps=%d",
            *(state[key] for key in keys),
            _max_remaining_steps(state),
        )

    def close(self) -> None:
        pass
