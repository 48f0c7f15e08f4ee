"""Workers from Spark: Horovod starts one process in each of `num_workers` tasks; without any, this process trains."""

import sys

import horovod.spark
from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.errors import UserError
from deepfm.training.worker import (
    Outcome,
    WorkOrder,
    failure_url,
    outcome_from_json,
    outcome_to_json,
    report_failure,
    run_worker,
)
from deepfm.training.world import HorovodWorld, SingleWorld


def launch(spark: SparkSession | None, order: WorkOrder, num_workers: int, start_timeout_s: int) -> Outcome:
    """Train with `num_workers` Horovod processes (0: in this process, without Horovod) and wait for the outcome.

    UserError where Spark has fewer slots than workers, or where a worker stopped for a reason the user can mend.
    """
    if num_workers == 0:
        return run_worker(order, SingleWorld())
    check_slots(spark, num_workers)
    try:
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
        raise _told_by_workers(order, num_workers, error) from error
    return outcome_from_json(results[0])


def check_slots(spark: SparkSession, num_workers: int) -> None:
    """UserError unless Spark can run `num_workers` tasks at the same time: Horovod would wait for them in silence."""
    context = spark.sparkContext._jsc.sc()
    profile = context.resourceProfileManager().defaultResourceProfile()
    num_slots = context.maxNumConcurrentTasks(profile)
    if num_slots < num_workers:
        raise UserError(
            f"--num-workers {num_workers}: expected that many free task slots, found {num_slots} on "
            f"{spark.sparkContext.master}; give fewer workers, or more slots (spark.master local[N], executors, cores)"
        )


def _train_as_rank(order: WorkOrder) -> str:
    world = HorovodWorld()
    try:
        return outcome_to_json(run_worker(order, world))
    except Exception as error:
        report_failure(order, world, error, by_user=isinstance(error, UserError))
        raise


def _told_by_workers(order: WorkOrder, num_workers: int, error: Exception) -> Exception:
    """The error of the first rank that left one; what Horovod raised where none did."""
    urls = [failure_url(order.run_url, rank) for rank in range(num_workers)]
    failures = [storage.read_json(url) for url in urls if storage.exists(url)]
    # A rank that fails takes the others with it: theirs is only the broken connection.
    for failure in sorted(failures, key=lambda failure: (not failure["by_user"], "Horovod" in failure["type"])):
        if failure["by_user"]:
            return UserError(failure["message"])
        return RuntimeError(f"rank {failure['rank']} failed: {failure['type']}: {failure['message']}")
    return RuntimeError(f"the workers failed: {error}")
