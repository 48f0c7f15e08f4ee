"""What rank 0 tells the driver while it trains, through a file in the run's folder that both can reach."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepfm import storage
from deepfm.launch.placement import WorkerPlacement
from deepfm.launch.step_metrics import StepMetrics

_FILE = "progress.json"
_WRITE_EVERY_S = 1.0
_MAX_POINTS = 2000  # that are kept for a driver that looks late
_LINE_EVERY_S = 60.0

logger = logging.getLogger(__name__)


class ProgressWriter:
    """Rank 0's side: the present step, about once a second, points of its curve, and every finished epoch."""

    def __init__(self, run_url: str, places: Sequence[WorkerPlacement] = ()):
        self._url = f"{run_url}/{_FILE}"
        self._state: dict = {"epochs": [], "points": [], "places": [asdict(place) for place in places]}
        self._written_at = 0.0
        self._curve: StepMetrics | None = None

    def begin(self, *, num_steps: int, max_epochs: int, curves: str = "") -> None:
        """Before the first step of a training; a run may have two, one after the other.

        `curves`: prefix of their names.
        """
        kept = {key: self._state[key] for key in ("epochs", "points", "places")}
        self._state = {"num_steps": num_steps, "max_epochs": max_epochs, **kept}
        self._curve = StepMetrics(num_steps, curves)
        self._write()
        self._written_at = 0.0  # its first step shall be seen

    def step(self, epoch: int, step: int, logloss: float, samples_per_s: float) -> None:
        """After a step; `logloss` is the mean of the epoch so far."""
        point = self._curve.point(epoch, step, logloss) if self._curve else None
        if point:
            self._state["points"] = [*self._state["points"][1 - _MAX_POINTS :], point]
        if time.monotonic() - self._written_at >= _WRITE_EVERY_S:
            self._write(epoch=epoch, step=step, logloss=logloss, samples_per_s=samples_per_s)

    def epoch(self, metrics: dict[str, float]) -> None:
        """After an epoch, with its metrics."""
        self._state["epochs"].append(metrics)
        self._write()

    def _write(self, **state) -> None:
        self._state.update(state)
        storage.write_json(self._url, self._state)
        self._written_at = time.monotonic()


@contextmanager
def monitor_progress(
    run_url: str,
    on_epoch: Callable[[dict[str, float]], None],
    on_steps: Callable[[list[dict[str, float]]], None] = lambda points: None,
    look_every_s: float | None = None,
):
    """While the block runs, show rank 0's progress on stderr and hand on what is new.

    `on_epoch` is given each finished epoch, `on_steps` the points of the curves within epochs.
    `look_every_s`: where rank 0 waits for what follows from an epoch; as often as it writes without it.
    """
    stop, url = threading.Event(), f"{run_url}/{_FILE}"
    # What a training that was cut off has told must not pass for this one's.
    storage.remove(url)
    watcher = threading.Thread(
        target=_watch, args=(url, on_epoch, on_steps, stop, look_every_s or _WRITE_EVERY_S), daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _watch(
    url: str,
    on_epoch: Callable[[dict[str, float]], None],
    on_steps: Callable[[list[dict[str, float]]], None],
    stop: threading.Event,
    look_every_s: float,
) -> None:
    display = _Bar() if sys.stderr.isatty() else _Lines()
    seen, told_places = set(), False
    while True:
        last_look = stop.wait(look_every_s)  # and one more, for what was written since the one before
        # A tracking server that is away for a moment must not cost the curves of all epochs after it.
        try:
            if storage.exists(url):
                state = storage.read_json(url)
                if not told_places:
                    log_placement(WorkerPlacement(**place) for place in state["places"])
                    told_places = True
                display.show(state)
                # By what they are: workers that were started again tell of their own epochs only.
                for metrics in _unseen(state["epochs"], seen):
                    on_epoch(metrics)
                    log_epoch_metrics(metrics)
                    seen.add(_key(metrics))
                points = _unseen(state["points"], seen)
                if points:
                    on_steps(points)
                    seen.update(map(_key, points))
        except Exception as error:
            logger.warning("progress could not be told, training goes on: %s", error)
        if last_look:
            display.close()
            return


def _unseen(points: list[dict[str, float]], seen: set) -> list[dict[str, float]]:
    return [point for point in points if _key(point) not in seen]


def _key(point: dict[str, float]) -> tuple:
    """Where a point is, and of which curves."""
    axis = "epoch" if "epoch" in point else "step"
    return (axis, point[axis], *sorted(point))


def read_curve(run_url: str) -> list[dict[str, float]]:
    """The points within epochs that the last workers of a run told of."""
    url = f"{run_url}/{_FILE}"
    return storage.read_json(url)["points"] if storage.exists(url) else []


def log_placement(places: Iterable[WorkerPlacement]) -> None:
    """Log which worker trains where, a line a rank."""
    for place in places:
        logger.info("rank %d: host %s, %s", place.rank, place.host, place.device)


def log_epoch_metrics(metrics: dict[str, float]) -> None:
    """Log what an epoch came to, in the names of its curves."""
    figures = [f"{name} {value:.5g}" for name, value in metrics.items() if name != "epoch"]
    logger.info("epoch %d: %s", metrics["epoch"], ", ".join(figures))


class _Bar:
    """For a terminal."""

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
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(
                "train", total=state["num_steps"] * state["max_epochs"], **fields
            )
        completed = (state["epoch"] - 1) * state["num_steps"] + state["step"]
        total = state["num_steps"] * state["max_epochs"]
        self._progress.update(self._task, completed=completed, total=total, **fields)

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """For a log file: a line a minute."""

    def __init__(self):
        self._told_at = time.monotonic()

    def show(self, state: dict) -> None:
        if "step" not in state or time.monotonic() - self._told_at < _LINE_EVERY_S:
            return
        self._told_at = time.monotonic()
        left = (state["max_epochs"] - state["epoch"] + 1) * state["num_steps"] - state["step"]
        logger.info(
            "epoch %d/%d, step %d/%d, %.0f samples/s, logloss %.4f, at most %d steps left",
            *(state[key] for key in ("epoch", "max_epochs", "step", "num_steps", "samples_per_s", "logloss")),
            left,
        )

    def close(self) -> None:
        pass
