"""Start of the workers: Horovod runs one process in each of `num_workers` Spark tasks, or none for 0."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import horovod.spark
from horovod.common.exceptions import HorovodInternalError
from pyspark.sql import SparkSession

from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import require_rows
from deepfm.distributed.collectives import Collectives, HorovodCollectives, SingleProcess
from deepfm.environment_faults import explain_faults, full_disk_error, to_fault_error
from deepfm.errors import JobFailedError, OutOfMemoryError, UserError, WorkersLostError
from deepfm.launch import heartbeat as heartbeats
from deepfm.launch import peer_loss, worker_errors
from deepfm.launch.dry_run import DryRunResult, dry_run, dry_run_from_json, dry_run_to_json
from deepfm.launch.factory import gauc_groups, require_rows_to_norm
from deepfm.launch.heartbeat import HeartbeatMonitor, heartbeat, monitor_heartbeats
from deepfm.launch.horovod_patches import (
    make_host_name_resolve,
    require_host_name,
    silence_horovod_threads,
    stop_on_signals,
)
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.peer_loss import close_connections_to, monitor_peer_loss, report_peer_loss
from deepfm.launch.rank.stages import run_worker
from deepfm.launch.run_channel import RunChannel
from deepfm.launch.worker_errors import read_worker_errors, report_worker_error
from deepfm.settings.deployment import WorkerSettings
from deepfm.spark.internals import executor_addresses, is_local, num_task_slots
from deepfm.training.epoch import NotFiniteError
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
    """Train with `num_workers` Horovod processes (0: in this process, without Horovod) and return the result.

    If a worker is lost, all are restarted from the last checkpoint, up to `num_retries` times.

    Raises UserError if a worker stopped for a reason the user can fix, WorkersLostError if a worker was lost
    and no retries are left, and see `check_slots` if Spark has fewer slots than workers.
    """
    _require_trainable(job, max(num_workers, 1))
    if num_workers == 0:
        with explain_faults("the training failed", job.run_url):
            return run_worker(job, SingleProcess())
    assert spark is not None
    for num_left in range(num_retries, -1, -1):
        try:
            return result_from_json(_run_on_workers(_train, spark, job, num_workers, workers))
        except WorkersLostError as error:
            if not num_left:
                raise
            logger.warning("%s; retrying from the last checkpoint, retries_left=%d", error, num_left)
            job = replace(job, resume=True)
    raise AssertionError("the last attempt returns or raises")


def launch_dry_run(
    spark: SparkSession | None, job: TrainJob, num_workers: int, workers: WorkerSettings
) -> DryRunResult:
    """Start workers like `launch` and measure a few steps without training."""
    _require_trainable(job, max(num_workers, 1))
    if num_workers == 0:
        return dry_run(job, SingleProcess())
    assert spark is not None
    return dry_run_from_json(_run_on_workers(_dry_run, spark, job, num_workers, workers))


def _require_trainable(job: TrainJob, num_ranks: int) -> None:
    """Check on the driver what each rank would otherwise detect, in part only after the training."""
    manifest = read_manifest(job.dataset_url)
    require_rows(job.dataset_url, manifest, num_ranks)
    require_rows_to_norm(job.model, manifest, num_ranks)
    gauc_groups(job.model, manifest.fields)


#: Work of each rank; returns a text. Only the text of rank 0 is sent to the driver.
Work = Callable[[TrainJob, Collectives], str]


def _train(job: TrainJob, collectives: Collectives) -> str:
    return result_to_json(run_worker(job, collectives))


def _dry_run(job: TrainJob, collectives: Collectives) -> str:
    return dry_run_to_json(dry_run(job, collectives))


def _run_on_workers(
    work: Work, spark: SparkSession, job: TrainJob, num_workers: int, workers: WorkerSettings
) -> str:
    check_slots(spark, num_workers, workers.start_timeout_s)
    if is_local(spark):
        require_host_name()
    supervisor = _Supervisor(spark, job.run_url, num_workers, workers)
    logger.info("starting num_workers=%d", num_workers)
    try:
        with supervisor.watch() as give_up, stop_on_signals(give_up):
            results = horovod.spark.run(
                _work_as_rank,
                args=(work, replace(job, heartbeat_every_s=workers.stall_warning_s / 6)),
                num_proc=num_workers,
                start_timeout=workers.start_timeout_s,
                use_gloo=True,
                nics=workers.network_interface and {workers.network_interface},
                executable=spark.sparkContext.pythonExec,  # the executors' Python, not the driver's
                # The workers' output is progress; stdout is reserved for the summary of the job.
                stdout=sys.stderr,
                stderr=sys.stderr,
                verbose=1 if logging.getLogger("horovod").isEnabledFor(logging.INFO) else 0,
            )
    except Exception as error:
        raise supervisor.to_error(str(error)) from error
    if None in results:
        raise supervisor.to_error("a rank lost the other ranks")
    return results[0]


@dataclass(frozen=True)
class _Supervisor:
    """Watches the workers of one attempt and gives them up when they are silent or unreachable."""

    spark: SparkSession
    run_url: str
    num_workers: int
    settings: WorkerSettings
    given_up: list[str] = field(default_factory=list)  # reasons

    @property
    def channel(self) -> RunChannel:
        return RunChannel(self.run_url)

    @contextmanager
    def watch(self) -> Iterator[Callable[[str], None]]:
        """Watch the workers during the block; yields the function that gives them up, with the reason."""
        for message in (heartbeats.MESSAGE, peer_loss.MESSAGE, worker_errors.MESSAGE):
            self.channel.clear(message, self.num_workers)
        with ExitStack() as stack:
            stack.enter_context(silence_horovod_threads(self.given_up))
            close_connections = stack.enter_context(close_connections_to(self._executors))

            def give_up(reason: str) -> None:
                self.given_up.append(reason)
                # Horovod and its processes end with their Spark job, unless it waits for an unreachable host.
                self.spark.sparkContext.cancelAllJobs()
                close_connections()

            heartbeat_monitor = monitor_heartbeats(
                HeartbeatMonitor(self.channel, self.num_workers),
                warn_after_s=self.settings.stall_warning_s,
                give_up_after_s=self.settings.stall_limit_s,
                on_warning=logger.warning,
                give_up=give_up,
            )
            stack.enter_context(heartbeat_monitor)
            stack.enter_context(monitor_peer_loss(self.channel, self.num_workers, self._executors, give_up))
            yield give_up

    def _executors(self) -> list[tuple[str, int]]:
        return executor_addresses(self.spark)

    def to_error(self, otherwise: str) -> Exception:
        """Return the most informative error of the ranks, else the give-up reason, else `otherwise`."""
        for error in read_worker_errors(self.channel, self.num_workers):
            for known in (NotFiniteError, OutOfMemoryError, JobFailedError):
                if error["type"] == known.__name__:
                    return known(error["message"])
            if error["is_user_error"]:
                return UserError(error["message"])
            return RuntimeError(f"rank {error['rank']} failed: {error['type']}: {error['message']}")
        # A rank cannot report anything on a full disk.
        if fault := full_disk_error("a worker failed", [self.run_url]):
            return fault
        if self.given_up:
            return WorkersLostError(f"{self.given_up[0]}; the workers were stopped")
        return WorkersLostError(f"the workers failed: {' '.join(otherwise.split())}")


def check_slots(spark: SparkSession, num_workers: int, within_s: float) -> None:
    """Raise an error unless Spark can run `num_workers` tasks at once: Horovod would wait silently.

    The executors of a cluster register one by one and are waited for. If they do not register in time, raise
    JobFailedError, because the cluster may be busy. In local mode raise UserError.
    """
    deadline, is_logged = time.monotonic() + (0 if is_local(spark) else within_s), False
    while (num_slots := num_task_slots(spark)) < num_workers and time.monotonic() < deadline:
        if not is_logged:
            logger.info("waiting for task slots: expected=%d available=%d", num_workers, num_slots)
        is_logged = True
        time.sleep(0.5)
    if num_slots < num_workers:
        failure = UserError if is_local(spark) else JobFailedError
        raise failure(
            f"--num-workers {num_workers}: expected that many task slots, found {num_slots} on "
            f"{spark.sparkContext.master}; lower --num-workers, or add slots (spark.master local[N], "
            "executors, cores)"
        )


def _work_as_rank(work: Work, job: TrainJob) -> str | None:
    """Run the work of a rank; returns None if it stopped because of another rank or reported a user error."""
    make_host_name_resolve()
    collectives, channel = HorovodCollectives(), RunChannel(job.run_url)
    with heartbeat(channel, collectives.rank, job.heartbeat_every_s):
        try:
            return work(job, collectives)
        except HorovodInternalError:
            report_peer_loss(channel, collectives.rank)
            return None  # Another rank stopped and reports the reason, or its host is unreachable.
        except UserError as error:
            report_worker_error(channel, collectives.rank, error, is_user_error=True)
            return None  # The driver reports it in one line; raising would print traces of Horovod and Spark.
        except Exception as error:
            fault = to_fault_error(error, f"rank {collectives.rank} failed", [job.run_url])
            if isinstance(fault, UserError):  # one that may pass is raised, and retried
                report_worker_error(channel, collectives.rank, fault, is_user_error=True)
                return None
            report_worker_error(channel, collectives.rank, error, is_user_error=False)
            raise
