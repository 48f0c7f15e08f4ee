"""How far Spark is, for whoever waits: a bar on a terminal, a line a minute elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import SparkContext
from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

_LOOK_EVERY_S = 0.5
_LINE_EVERY_S = 60.0

logger = logging.getLogger(__name__)


@contextmanager
def progress_shown(spark: SparkSession, what: str) -> Iterator[None]:
    """While the block runs: how many tasks of the present stages are done, as a bar or a line a minute."""
    stop = threading.Event()
    display = _bar if sys.stderr.isatty() else _lines
    shower = threading.Thread(target=display, args=(spark.sparkContext, what, stop), daemon=True)
    shower.start()
    try:
        yield
    finally:
        stop.set()
        shower.join()


def _num_tasks(context: SparkContext) -> tuple[int, int]:
    """(done, all) of the stages that run now; Spark knows nothing of those that will come."""
    tracker = context.statusTracker()
    stages = [info for info in map(tracker.getStageInfo, tracker.getActiveStageIds()) if info]
    return sum(stage.numCompletedTasks for stage in stages), sum(stage.numTasks for stage in stages)


def _bar(context: SparkContext, what: str, stop: threading.Event) -> None:
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tasks of this stage"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        while not stop.wait(_LOOK_EVERY_S):
            done, num = _num_tasks(context)
            progress.update(task, completed=done, total=num or None)


def _lines(context: SparkContext, what: str, stop: threading.Event) -> None:
    started = time.monotonic()
    while not stop.wait(_LINE_EVERY_S):
        done, num = _num_tasks(context)
        stage = f"{done} of {num} tasks of this stage" if num else "between two stages"
        logger.info("%s: %.0f min, %s", what, (time.monotonic() - started) / 60, stage)
