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
from deepfm.distributed.collectives import Collectives, HorovodCollectives, SingleProcess
from deepfm.errors import OutOfMemoryError, UserError, WorkersLostError
from deepfm.launch.dry_run import DryRunResult, dry_run, dry_run_from_json, dry_run_to_json
from deepfm.launch.factory import gauc_groups, require_rows_to_norm
from deepfm.launch.heartbeat import HeartbeatMonitor, heartbeat, monitor_heartbeats
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.peer_loss import clear_peer_loss, close_connections_to, monitor_peer_loss, report_peer_loss
from deepfm.launch.signals import silence_horovod_threads, stop_on_signals
from deepfm.launch.worker import run_worker
from deepfm.launch.worker_errors import clear_worker_errors, read_worker_errors, report_worker_error
from deepfm.settings.deployment import WorkerSettings
from deepfm.training.loop import NotFiniteError
from deepfm.training.result import TrainingResult, result_from_json, result_to_json

logger = logging.getLogger(__name__)


def launch(
    spark: SparkSession | None,
    job: TrainJob,
    num_workers: int,
    workers: WorkerSettings,
    *,
    num_retries: int = 0,
) -> TrainingResult:
    """Train with `num_workers` Horovod processes (0: in this one, without Horovod); wait for the outcome.

    Where a worker is lost, all are started again from the last checkpoint, `num_retries` times.

    UserError where Spark has fewer slots than workers, or a worker stopped for a reason the user can mend;
    WorkersLostError where one was lost once too often.
    """
    _require_trainable(job, max(num_workers, 1))
    if num_workers == 0:
        return run_worker(job, SingleProcess())
    for num_left in range(num_retries, -1, -1):
        try:
            return result_from_json(_run_on_workers(_train, spark, job, num_workers, workers))
        except WorkersLostError as error:
            if not num_left:
                raise
            logger.warning("%s; trying again from the last checkpoint, %d tries left", error, num_left)
            job = replace(job, resume=True)
    raise AssertionError("the last try returns or raises")


def launch_dry_run(
    spark: SparkSession | None, job: TrainJob, num_workers: int, workers: WorkerSettings
) -> DryRunResult:
    """Like `launch`, but nothing is trained: what it would take."""
    _require_trainable(job, max(num_workers, 1))
    if num_workers == 0:
        return dry_run(job, SingleProcess())
    return dry_run_from_json(_run_on_workers(_dry_run, spark, job, num_workers, workers))


def _require_trainable(job: TrainJob, num_ranks: int) -> None:
    """What each rank would find out, the last of it only when all is trained."""
    manifest = read_manifest(job.dataset_url)
    require_rows(job.dataset_url, manifest, num_ranks)
    require_rows_to_norm(job.model, manifest, num_ranks)
    gauc_groups(job.model, manifest.fields)


#: What each rank does with its order -> a text; that of rank 0 comes back.
Work = Callable[[TrainJob, Collectives], str]


def _train(job: TrainJob, collectives: Collectives) -> str:
    return result_to_json(run_worker(job, collectives))


def _dry_run(job: TrainJob, collectives: Collectives) -> str:
    return dry_run_to_json(dry_run(job, collectives))


def _run_on_workers(
    work: Work, spark: SparkSession, job: TrainJob, num_workers: int, workers: WorkerSettings
) -> str:
    check_slots(spark, num_workers, workers.start_timeout_s)
    clear_worker_errors(job.run_url, num_workers)
    clear_peer_loss(job.run_url, num_workers)
    logger.info("starting %d workers", num_workers)
    given_up: list[str] = []
    try:
        watched = _watched(spark, job.run_url, num_workers, workers, given_up)
        with watched as give_up, stop_on_signals(give_up):
            results = horovod.spark.run(
                _work_as_rank,
                args=(work, replace(job, heartbeat_every_s=workers.stall_warning_s / 6)),
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
        raise _told_by_workers(job, num_workers, str(error), given_up) from error
    if None in results:
        raise _told_by_workers(job, num_workers, "a rank lost the others", given_up)
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

    silence = monitor_heartbeats(
        HeartbeatMonitor(run_url, num_workers),
        warn_after_s=workers.stall_warning_s,
        give_up_after_s=workers.stall_limit_s,
        on_warning=logger.warning,
        give_up=give_up,
    )
    contact = monitor_peer_loss(run_url, num_workers, executors, give_up)
    with silence_horovod_threads(given_up), close_connections_to(executors) as hang_up, silence, contact:
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


def _work_as_rank(work: Work, job: TrainJob) -> str | None:
    """What the work gives; None where this rank stopped without a fault of its own."""
    collectives = HorovodCollectives()
    with heartbeat(job.run_url, collectives.rank, job.heartbeat_every_s):
        try:
            return work(job, collectives)
        except HorovodInternalError:
            report_peer_loss(job.run_url, collectives.rank)
            return None  # Another rank stopped and tells why, or its host is out of reach.
        except UserError as error:
            report_worker_error(job.run_url, collectives.rank, error, by_user=True)
            return None  # The driver tells it in one line; a raise would print Horovod's and Spark's traces.
        except Exception as error:
            report_worker_error(job.run_url, collectives.rank, error, by_user=False)
            raise


def _told_by_workers(
    job: TrainJob, num_workers: int, otherwise: str, given_up: Sequence[str] = ()
) -> Exception:
    """The error of the rank that tells most; else why they were given up; else `otherwise`."""
    for failure in read_worker_errors(job.run_url, num_workers):
        for known in (NotFiniteError, OutOfMemoryError):
            if failure["type"] == known.__name__:
                return known(failure["message"])
        if failure["by_user"]:
            return UserError(failure["message"])
        return RuntimeError(f"rank {failure['rank']} failed: {failure['type']}: {failure['message']}")
    if given_up:
        return WorkersLostError(f"{given_up[0]}, and was given up")
    return WorkersLostError(f"the workers failed: {' '.join(otherwise.split())}")
