"""Workers from Spark: Horovod starts a process in each of `num_workers` tasks; with none, this one trains."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import horovod.spark
from horovod.common.exceptions import HorovodInternalError
from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.errors import UserError, WorkersLost
from deepfm.training.outcome import Outcome, outcome_from_json, outcome_to_json
from deepfm.training.worker import WorkOrder, failure_url, report_failure, run_worker
from deepfm.training.world import HorovodWorld, SingleWorld

logger = logging.getLogger(__name__)

#: Executors of a cluster register one by one after the session is there.
_EXECUTORS_WITHIN_S = 30.0


def launch(
    spark: SparkSession | None,
    order: WorkOrder,
    num_workers: int,
    start_timeout_s: int,
    *,
    num_retries: int = 0,
) -> Outcome:
    """Train with `num_workers` Horovod processes (0: in this one, without Horovod); wait for the outcome.

    Where a worker is lost, all are started again from the last checkpoint, `num_retries` times.

    UserError where Spark has fewer slots than workers, or a worker stopped for a reason the user can mend;
    WorkersLost where one was lost once too often.
    """
    if num_workers == 0:
        return run_worker(order, SingleWorld())
    for num_left in range(num_retries, -1, -1):
        check_slots(spark, num_workers)
        try:
            return _launch_once(order, num_workers, start_timeout_s)
        except WorkersLost as error:
            if not num_left:
                raise
            logger.warning("%s; trying again from the last checkpoint, %d tries left", error, num_left)
            order = replace(order, resume=True)
    raise AssertionError("the last try returns or raises")


def _launch_once(order: WorkOrder, num_workers: int, start_timeout_s: int) -> Outcome:
    try:
        with _signal_handlers_kept(), _spark_thread_quiet():
            results = horovod.spark.run(
                _train_as_rank,
                args=(order,),
                num_proc=num_workers,
                start_timeout=start_timeout_s,
                use_gloo=True,
                # What workers print is progress, not the job's summary, which is alone on stdout.
                stdout=sys.stderr,
                stderr=sys.stderr,
                verbose=0,
            )
    except Exception as error:
        raise _told_by_workers(order, num_workers, str(error)) from error
    if None in results:
        raise _told_by_workers(order, num_workers, "a rank lost the others")
    return outcome_from_json(results[0])


def check_slots(spark: SparkSession, num_workers: int) -> None:
    """UserError unless Spark can run `num_workers` tasks at once: Horovod would wait for them in silence."""
    context = spark.sparkContext._jsc.sc()
    profile = context.resourceProfileManager().defaultResourceProfile()
    deadline = time.monotonic() + (0 if context.isLocal() else _EXECUTORS_WITHIN_S)
    while (num_slots := context.maxNumConcurrentTasks(profile)) < num_workers and time.monotonic() < deadline:
        time.sleep(0.5)
    if num_slots < num_workers:
        raise UserError(
            f"--num-workers {num_workers}: expected that many task slots, found {num_slots} on "
            f"{spark.sparkContext.master}; give fewer workers, or more slots (spark.master local[N], "
            "executors, cores)"
        )


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Horovod takes SIGINT and SIGTERM over and keeps them: after training, nothing would stop the job."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _spark_thread_quiet() -> Iterator[None]:
    """Horovod's thread that waits for the tasks dies of a lost worker with three stack traces; we tell it."""
    told = threading.excepthook

    def leave_out(arguments: threading.ExceptHookArgs) -> None:
        if "run_spark" not in getattr(arguments.thread, "name", ""):
            told(arguments)

    threading.excepthook = leave_out
    try:
        yield
    finally:
        threading.excepthook = told


def _train_as_rank(order: WorkOrder) -> str | None:
    """The outcome as JSON; None where this rank stopped without a fault of its own."""
    world = HorovodWorld()
    try:
        return outcome_to_json(run_worker(order, world))
    except HorovodInternalError:
        return None  # Another rank stopped; it tells why.
    except UserError as error:
        report_failure(order, world, error, by_user=True)
        return None  # The driver tells it in one line; a raise would print Horovod's and Spark's traces.
    except Exception as error:
        report_failure(order, world, error, by_user=False)
        raise


def _told_by_workers(order: WorkOrder, num_workers: int, otherwise: str) -> Exception:
    """The error of the first rank that left one; `otherwise` where none did."""
    urls = [failure_url(order.run_url, rank) for rank in range(num_workers)]
    failures = [storage.read_json(url) for url in urls if storage.exists(url)]
    for failure in sorted(failures, key=lambda failure: not failure["by_user"]):
        if failure["by_user"]:
            return UserError(failure["message"])
        return RuntimeError(f"rank {failure['rank']} failed: {failure['type']}: {failure['message']}")
    return WorkersLost(f"the workers failed: {' '.join(otherwise.split())}")
