"""Checks of what a profile requests: slots for the workers, a Spark master, GPUs, MLflow."""

import re
from collections.abc import Mapping
from typing import Any

from deepfm.doctor.finding import Finding, green, red, yellow
from deepfm.doctor.machine import check_writable
from deepfm.errors import JobFailedError, UserError
from deepfm.settings.deployment import Profile
from deepfm.spark.environment import master_error, standalone_address
from deepfm.spark.properties import memory_bytes
from deepfm.tracking.uri import absolute_uri, public_uri, sqlite_path

_GIB = 2**30
#: Memory of a worker process before it allocates an embedding table: Python, PyTorch, Horovod.
_WORKER_BYTES = _GIB // 2
#: Registered model and experiment that do not exist, with which the doctor checks a registration.
_PROBE_NAME = "deepfm-doctor"


def num_slots(spark: Mapping[str, Any], num_cores: int) -> int | None:
    """Return how many tasks Spark runs at once with these properties; None if only a cluster knows."""
    master, task_cpus = str(spark.get("spark.master", "local[*]")), int(spark.get("spark.task.cpus", 1))
    if master == "local":
        return 1
    if match := re.fullmatch(r"local\[(\d+|\*)(?:,.*)?\]", master):
        return (num_cores if match[1] == "*" else int(match[1])) // task_cpus
    if match := re.fullmatch(r"local-cluster\[ *(\d+) *, *(\d+) *, *\d+ *\]", master):
        return int(match[1]) * (int(match[2]) // task_cpus)
    if "spark.cores.max" in spark:
        return int(spark["spark.cores.max"]) // task_cpus
    if "spark.executor.instances" in spark:
        slots_per_executor = int(spark.get("spark.executor.cores", 1)) // task_cpus
        return int(spark["spark.executor.instances"]) * slots_per_executor
    return None


def check_slots(profile: Profile, num_workers: int, num_cores: int) -> Finding:
    """Compare Spark's slots with the number of workers, which Horovod starts all at once."""
    what, master = "Spark slots", profile.spark.get("spark.master", "local[*]")
    slots = num_slots(profile.spark, num_cores)
    if slots is None:
        remedy = "train.py --dry-run, which asks the cluster"
        return yellow(what, f"{master}: only the cluster knows how many", remedy)
    found = f"{slots} on {master}, expected {num_workers} for {num_workers} workers"
    if slots < num_workers:
        return red(what, found, f"--num-workers {slots}, or more slots (spark.master local[{num_workers}])")
    threads_per_worker = profile.workers.threads_per_worker
    if str(master).startswith("local") and num_workers * threads_per_worker > num_cores:
        found = f"{found}, with {threads_per_worker} threads each on {num_cores} cores"
        return yellow(what, found, "lower workers.threads_per_worker in the profile, or use fewer workers")
    return green(what, found)


def check_master(master: str) -> Finding:
    """Check that a standalone master answers; other masters are not contacted."""
    if error := master_error(master):
        return red("Spark master", *error)
    return green("Spark master", f"{master} answers" if standalone_address(master) else master)


def requests_gpus(profile: Profile) -> bool:
    """Whether the profile requests GPUs from Spark."""
    return any("resource.gpu.amount" in key and float(value) > 0 for key, value in profile.spark.items())


def required_memory(profile: Profile, num_workers: int) -> int:
    """Return the bytes that driver and workers allocate on one machine before they hold any data."""
    heap = memory_bytes(profile.spark.get("spark.driver.memory", "1g")) or _GIB
    return heap + num_workers * _WORKER_BYTES


def check_mlflow(uri: str, registry_uri: str | None = None) -> Finding:
    """Check that runs and models can be stored at `uri`; a missing database is not created."""
    # The doctor's output is often shown to others, so it must not contain credentials.
    shown = public_uri(absolute_uri(uri))
    try:
        from deepfm.tracking.store import MlflowStore  # imported here: MLflow itself may be broken
    except Exception as error:
        return red("MLflow", f"cannot be imported: {error}", "make env")
    file = sqlite_path(uri)
    if file and not file.exists():
        probe = check_writable("MLflow", file.parent)
        return probe if probe.level == "red" else green("MLflow", f"{shown}, which the first job creates")
    try:
        store = MlflowStore(uri, retry_s=1, registry_uri=registry_uri)
        store.check_registration(_PROBE_NAME, _PROBE_NAME)
    except (UserError, JobFailedError) as error:
        problem, _, remedy = str(error).rpartition("; ")
        return red("MLflow", problem.replace(uri, shown), remedy)
    return green("MLflow", f"{shown} answers and can register models")
