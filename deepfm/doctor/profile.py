"""What a profile asks for: slots for the workers, a Spark master, GPUs, MLflow."""

import re
import socket
from collections.abc import Mapping
from pathlib import Path

from deepfm.doctor.finding import Finding, green, red, yellow
from deepfm.doctor.machine import check_writable
from deepfm.doctor.properties import memory_bytes, property_mistakes
from deepfm.errors import UserError
from deepfm.settings.deployment import Profile
from deepfm.tracking.uri import without_credentials

_GIB = 2**30
#: Of a worker's process before it holds a table: Python, PyTorch, Horovod.
_WORKER_BYTES = _GIB // 2
_ANSWERS_WITHIN_S = 5
_WITHOUT_GPUS = "take the spark.*.resource.gpu.* lines out of the profile, or run where there are GPUs"


def num_slots(spark: Mapping[str, object], num_cores: int) -> int | None:
    """Tasks that Spark runs at once under these properties; None where only a running cluster knows."""
    master, of_task = str(spark.get("spark.master", "local[*]")), int(spark.get("spark.task.cpus", 1))
    if master == "local":
        return 1
    if found := re.fullmatch(r"local\[(\d+|\*)(?:,.*)?\]", master):
        return (num_cores if found[1] == "*" else int(found[1])) // of_task
    if found := re.fullmatch(r"local-cluster\[ *(\d+) *, *(\d+) *, *\d+ *\]", master):
        return int(found[1]) * (int(found[2]) // of_task)
    if "spark.cores.max" in spark:
        return int(spark["spark.cores.max"]) // of_task
    if "spark.executor.instances" in spark:
        return int(spark["spark.executor.instances"]) * (int(spark.get("spark.executor.cores", 1)) // of_task)
    return None


def check_slots(profile: Profile, num_workers: int, num_cores: int) -> Finding:
    """Slots beside the workers that shall train, which Horovod starts all at once."""
    what, master = "Spark slots", profile.spark.get("spark.master", "local[*]")
    slots = num_slots(profile.spark, num_cores)
    if slots is None:
        remedy = "train.py --dry-run, which asks the cluster"
        return yellow(what, f"{master}: only the cluster knows how many", remedy)
    found = f"{slots} on {master}, wanted {num_workers} for as many workers"
    if slots < num_workers:
        return red(what, found, f"--num-workers {slots}, or more slots (spark.master local[{num_workers}])")
    threads = num_workers * profile.workers.threads_per_worker
    if str(master).startswith("local") and threads > num_cores:
        told = f"{found}, of {profile.workers.threads_per_worker} threads each on {num_cores} cores"
        return yellow(what, told, "lower workers.threads_per_worker in the profile, or give fewer workers")
    return green(what, found)


def check_master(master: str) -> Finding:
    """Whether a standalone master answers; other masters are not asked."""
    found = re.fullmatch(r"spark://([^:/,]+|\[[^\]]+\]):(\d+)", master)
    if not found:
        return green("Spark master", master)
    try:
        with socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=_ANSWERS_WITHIN_S):
            return green("Spark master", f"{master} answers")
    except OSError as error:
        remedy = f"nc -vz {found[1]} {found[2]}; start it, or change spark.master in the profile"
        return red("Spark master", f"{master} does not answer: {error}", remedy)


def num_gpus_of_driver() -> int:
    """Of NVIDIA's kernel driver, whatever PyTorch sees."""
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.exists() else 0


def wants_gpus(profile: Profile) -> bool:
    """Whether it asks Spark for GPUs."""
    return any("resource.gpu.amount" in key and float(value) > 0 for key, value in profile.spark.items())


def spark_obstacle(spark: Mapping[str, object]) -> str | None:
    """Why no session can start under these properties, and what to do; Spark itself says it late."""
    if mistakes := property_mistakes(spark):
        return f"{'; '.join(mistakes)}; mend it in the profile, or the flag of spark-submit that says so"
    master = str(spark.get("spark.master", ""))
    answers = check_master(master)
    if answers.level == "red":
        return f"spark.master: {answers.found}; {answers.remedy}"
    amounts = [key for key in spark if "resource.gpu.amount" in key]
    if master.startswith("local") and amounts and not num_gpus_of_driver():
        return f"{amounts[0]}: GPUs are asked for, found none on this machine; {_WITHOUT_GPUS}"
    return None


def memory_wanted(profile: Profile, num_workers: int) -> int:
    """Bytes that driver and workers take on one machine before they hold any data."""
    heap = memory_bytes(profile.spark.get("spark.driver.memory", "1g")) or _GIB
    return heap + num_workers * _WORKER_BYTES


def check_mlflow(uri: str) -> Finding:
    """Whether runs and models can be kept there; a database that is not there yet is not made."""
    # Credentials may be part of an address; what the doctor says is often shown to others.
    told, _, _ = without_credentials(uri)
    try:
        from deepfm.tracking.store import MlflowStore  # here: MLflow itself may be what is broken
    except Exception as error:
        return red("MLflow", f"does not load: {error}", "make env")
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.exists():
        probe = check_writable("MLflow", file.parent)
        return probe if probe.level == "red" else green("MLflow", f"{told}, which the first job makes")
    try:
        MlflowStore(uri, retry_s=1)
    except UserError as error:
        remedy = "mlflow server --host 127.0.0.1 --port 5000, or another --tracking-uri"
        return red("MLflow", str(error).replace(uri, told), remedy)
    return green("MLflow", f"{told} answers")
