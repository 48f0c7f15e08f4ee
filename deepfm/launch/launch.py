"""Workers from Spark: Horovod starts a process in each of `num_workers` tasks; with none, this one trains."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import horovod.spark
from horovod.common.exceptions import HorovodInternalError
from pyspark.sql import SparkSession

from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import require_rows
from deepfm.distributed.collectives import HorovodWorld, SingleWorld, World
from deepfm.errors import OutOfMemory, UserError, WorkersLost
from deepfm.launch.dry_run import Rehearsal, rehearsal_from_json, rehearsal_to_json, rehearse
from deepfm.launch.factory import groups_of, require_rows_to_norm
from deepfm.launch.heartbeat import Pulses, beating, watched_for_silence
from deepfm.launch.job_spec import WorkOrder
from deepfm.launch.peer_loss import forget_lost, hanging_up, report_lost, watched_for_lost
from deepfm.launch.signals import ended_by_signals, horovod_threads_quiet
from deepfm.launch.worker import run_worker
from deepfm.launch.worker_errors import failures, forget_failures, report_failure
from deepfm.settings.deployment import WorkerSettings
from deepfm.training.loop import NotFiniteError
from deepfm.training.result import Outcome, outcome_from_json, outcome_to_json

logger = logging.getLogger(__name__)


def launch(
    spark: SparkSession | None,
    order: WorkOrder,
    num_workers: int,
    workers: WorkerSettings,
    *,
    num_retries: int = 0,
) -> Outcome:
    """Train with `num_workers` Horovod processes (0: in this one, without Horovod); wait for the outcome.

    Where a worker is lost, all are started again from the last checkpoint, `num_retries` times.

    UserError where Spark has fewer slots than workers, or a worker stopped for a reason the user can mend;
    WorkersLost where one was lost once too often.
    """
    _require_trainable(order, max(num_workers, 1))
    if num_workers == 0:
        return run_worker(order, SingleWorld())
    for num_left in range(num_retries, -1, -1):
        try:
            return outcome_from_json(_run_on_workers(_train, spark, order, num_workers, workers))
        except WorkersLost as error:
            if not num_left:
                raise
            logger.warning("%s; trying again from the last checkpoint, %d tries left", error, num_left)
            order = replace(order, resume=True)
    raise AssertionError("the last try returns or raises")


def launch_rehearsal(
    spark: SparkSession | None, order: WorkOrder, num_workers: int, workers: WorkerSettings
) -> Rehearsal:
    """Like `launch`, but nothing is trained: what it would take."""
    _require_trainable(order, max(num_workers, 1))
    if num_workers == 0:
        return rehearse(order, SingleWorld())
    return rehearsal_from_json(_run_on_workers(_rehearse, spark, order, num_workers, workers))


def _require_trainable(order: WorkOrder, num_ranks: int) -> None:
    """What each rank would find out, the last of it only when all is trained."""
    manifest = read_manifest(order.dataset_url)
    require_rows(order.dataset_url, manifest, num_ranks)
    require_rows_to_norm(order.model, manifest, num_ranks)
    groups_of(order.model, manifest.fields)


#: What each rank does with its order -> a text; that of rank 0 comes back.
Work = Callable[[WorkOrder, World], str]


def _train(order: WorkOrder, world: World) -> str:
    return outcome_to_json(run_worker(order, world))


def _rehearse(order: WorkOrder, world: World) -> str:
    return rehearsal_to_json(rehearse(order, world))


def _run_on_workers(
    work: Work, spark: SparkSession, order: WorkOrder, num_workers: int, workers: WorkerSettings
) -> str:
    check_slots(spark, num_workers, workers.start_timeout_s)
    forget_failures(order.run_url, num_workers)
    forget_lost(order.run_url, num_workers)
    logger.info("starting %d workers", num_workers)
    given_up: list[str] = []
    try:
        watched = _watched(spark, order.run_url, num_workers, workers, given_up)
        with watched as give_up, ended_by_signals(give_up):
            results = horovod.spark.run(
                _work_as_rank,
                args=(work, replace(order, beat_every_s=workers.stall_warning_s / 6)),
                num_proc=num_workers,
                start_timeout=workers.start_timeout_s,
                use_gloo=True,
                nics=workers.network_interface and {workers.network_interface},
                executable=spark.sparkContext.pythonExec,  # the executors', which need not be the driver's
                # What workers print is progress, not the job's summary, which is alone on stdout.
                stdout=sys.stderr,
                stderr=sys.stderr,
                verbose=1 if logging.getLogger("horovod").isEnabledFor(logging.INFO) else 0,
            )
    except Exception as error:
        raise _told_by_workers(order, num_workers, str(error), given_up) from error
    if None in results:
        raise _told_by_workers(order, num_workers, "a rank lost the others", given_up)
    return results[0]


@contextmanager
def _watched(
    spark: SparkSession, run_url: str, num_workers: int, workers: WorkerSettings, given_up: list[str]
) -> Iterator[Callable[[str], None]]:
    """Where a rank falls silent or ranks lose each other, end the block; `given_up` gets the reason.

    What ends it is given to the block, too.
    """

    def executors() -> list[tuple[str, int]]:
        tracker = spark.sparkContext._jsc.sc().statusTracker()
        return [(executor.host(), executor.port()) for executor in tracker.getExecutorInfos()]

    def give_up(reason: str) -> None:
        given_up.append(reason)
        spark.sparkContext.cancelAllJobs()  # Horovod ends with its Spark job, and its processes with it
        hang_up()  # but not while a host that is gone owes it an answer

    silence = watched_for_silence(
        Pulses(run_url, num_workers),
        warn_after_s=workers.stall_warning_s,
        give_up_after_s=workers.stall_limit_s,
        on_warning=logger.warning,
        give_up=give_up,
    )
    contact = watched_for_lost(run_url, num_workers, executors, give_up)
    with horovod_threads_quiet(given_up), hanging_up(executors) as hang_up, silence, contact:
        yield give_up


def check_slots(spark: SparkSession, num_workers: int, within_s: float) -> None:
    """UserError unless Spark can run `num_workers` tasks at once: Horovod would wait for them in silence.

    Those of a cluster come one by one as executors register, and are waited for.
    """
    context = spark.sparkContext._jsc.sc()
    profile = context.resourceProfileManager().defaultResourceProfile()
    deadline, told = time.monotonic() + (0 if context.isLocal() else within_s), False
    while (num_slots := context.maxNumConcurrentTasks(profile)) < num_workers and time.monotonic() < deadline:
        if not told:
            logger.info("waiting for %d task slots, %d are there", num_workers, num_slots)
        told = True
        time.sleep(0.5)
    if num_slots < num_workers:
        raise UserError(
            f"--num-workers {num_workers}: expected that many task slots, found {num_slots} on "
            f"{spark.sparkContext.master}; give fewer workers, or more slots (spark.master local[N], "
            "executors, cores)"
        )


def _work_as_rank(work: Work, order: WorkOrder) -> str | None:
    """What the work gives; None where this rank stopped without a fault of its own."""
    world = HorovodWorld()
    with beating(order.run_url, world.rank, order.beat_every_s):
        try:
            return work(order, world)
        except HorovodInternalError:
            report_lost(order.run_url, world.rank)
            return None  # Another rank stopped and tells why, or its host is out of reach.
        except UserError as error:
            report_failure(order.run_url, world.rank, error, by_user=True)
            return None  # The driver tells it in one line; a raise would print Horovod's and Spark's traces.
        except Exception as error:
            report_failure(order.run_url, world.rank, error, by_user=False)
            raise


def _told_by_workers(
    order: WorkOrder, num_workers: int, otherwise: str, given_up: Sequence[str] = ()
) -> Exception:
    """The error of the rank that tells most; else why they were given up; else `otherwise`."""
    for failure in failures(order.run_url, num_workers):
        for known in (NotFiniteError, OutOfMemory):
            if failure["type"] == known.__name__:
                return known(failure["message"])
        if failure["by_user"]:
            return UserError(failure["message"])
        return RuntimeError(f"rank {failure['rank']} failed: {failure['type']}: {failure['message']}")
    if given_up:
        return WorkersLost(f"{given_up[0]}, and was given up")
    return WorkersLost(f"the workers failed: {' '.join(otherwise.split())}")
