"""Progress of Spark's stages while a job runs: a bar on a terminal, otherwise one log line per minute."""

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

_POLL_EVERY_S = 0.5
_LOG_EVERY_S = 60.0

logger = logging.getLogger(__name__)


@contextmanager
def show_progress(spark: SparkSession, job_name: str) -> Iterator[None]:
    """Show the number of finished tasks of the active stages during the block."""
    stop = threading.Event()
    display = _show_bar if sys.stderr.isatty() else _log_lines
    thread = threading.Thread(target=display, args=(spark.sparkContext, job_name, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _count_tasks(context: SparkContext) -> tuple[int, int]:
    """Return (finished, all) tasks of the active stages; Spark does not know the later stages."""
    tracker = context.statusTracker()
    stages = [info for info in map(tracker.getStageInfo, tracker.getActiveStageIds()) if info]
    return sum(stage.numCompletedTasks for stage in stages), sum(stage.numTasks for stage in stages)


def _show_bar(context: SparkContext, job_name: str, stop: threading.Event) -> None:
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tasks of this stage"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(job_name, total=None)
        while not stop.wait(_POLL_EVERY_S):
            num_done, num_tasks = _count_tasks(context)
            progress.update(task, completed=num_done, total=num_tasks or None)


def _log_lines(context: SparkContext, job_name: str, stop: threading.Event) -> None:
    started = time.monotonic()
    while not stop.wait(_LOG_EVERY_S):
        num_done, num_tasks = _count_tasks(context)
        stage = f"{num_done} of {num_tasks} tasks of this stage" if num_tasks else "between two stages"
        logger.info("%s: %.0f min, %s", job_name, (time.monotonic() - started) / 60, stage)
