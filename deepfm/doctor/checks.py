"""All checks of the doctor, in the order in which problems should be fixed."""

import os
import resource
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from deepfm import storage
from deepfm.doctor import host, installed, machine
from deepfm.doctor import profile as profile_checks
from deepfm.doctor.finding import Finding, green, red, yellow
from deepfm.errors import UserError
from deepfm.settings.conf_files import load_profile
from deepfm.settings.deployment import Profile
from deepfm.spark.environment import num_driver_gpus
from deepfm.spark.local_machine import java_temporary_folder
from deepfm.spark.properties import property_errors, scratch_folders

DISTRIBUTION = "deepfm-spark"


@dataclass(frozen=True)
class Environment:
    """Input of the doctor: its process and the flags of the user's jobs."""

    environment: Mapping[str, str]
    python: str  # path of the interpreter
    python_version: tuple[int, int]
    lock: Path  # requirements.lock; only a checkout has it
    profile_path: str
    tracking_uri: str | None  # None: the profile's
    num_workers: int


def run_checks(inputs: Environment) -> Iterator[Finding]:
    """Yield findings as they become available; PyTorch and MLflow take seconds."""
    yield machine.check_python(inputs.python_version, inputs.python)
    yield machine.check_java(inputs.environment)
    yield host.check_user(os.getuid())
    yield host.check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    versions = _versions(inputs.lock)
    yield from _packages(*versions)
    has_horovod = versions[0].get("horovod") is not None
    include = sysconfig.get_path("include")
    yield machine.check_compiler(inputs.environment, include, has_horovod=has_horovod)
    build = installed.probe_builds(inputs.python)
    yield installed.check_torch(build)
    yield installed.check_horovod(build)
    try:
        profile = load_profile(inputs.profile_path)
    except UserError as error:
        yield red("profile", str(error), "--profile conf/profile/local.yaml, in the project's folder")
        profile = None
    errors = property_errors(profile.spark) if profile else []
    requests_gpus = bool(profile and not errors and profile_checks.requests_gpus(profile))
    yield installed.check_gpus(build, num_driver_gpus(), requested=requests_gpus)
    # In a cluster's profile the master may be left to spark-submit's flag.
    master = str(profile.spark.get("spark.master", "")) if profile else "local[*]"
    spark_version = versions[0].get("pyspark") or ""
    yield host.check_host_name(master or "local[*]")
    yield machine.check_spark_variables(inputs.environment, inputs.python, spark_version, master)
    if profile:
        yield green("profile", inputs.profile_path)
        yield from _check_spark(profile, errors, inputs)
        yield from _check_folders(profile, inputs)
        uri = inputs.tracking_uri or profile.mlflow.tracking_uri
        yield profile_checks.check_mlflow(uri, profile.mlflow.registry_uri)


def _versions(lock: Path):
    """Return ({package: installed version}, ranges, pins)."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    ranges, pins = installed.required_packages(DISTRIBUTION, text)
    return {name: installed.installed_version(name) for name in sorted(ranges)}, ranges, pins


def _packages(versions, ranges, pins) -> Iterator[Finding]:
    if ranges:
        yield green("deepfm-spark", metadata.version(DISTRIBUTION))
        yield from installed.check_packages(versions, ranges, pins)
    else:
        yield yellow("deepfm-spark", "is not installed, so its requirements are unknown", "make env")


def _check_spark(profile: Profile, errors: list[str], inputs: Environment) -> Iterator[Finding]:
    if errors:
        yield red("Spark properties", "; ".join(errors), f"fix them under spark: in {inputs.profile_path}")
        return  # slots and memory cannot be computed
    yield profile_checks.check_master(str(profile.spark.get("spark.master", "local[*]")))
    num_cores = psutil.cpu_count() or 1
    yield profile_checks.check_slots(profile, inputs.num_workers, num_cores)
    memory = psutil.virtual_memory()
    required = profile_checks.required_memory(profile, inputs.num_workers)
    yield machine.check_memory(memory.total, memory.available, required)


def _check_folders(profile: Profile, inputs: Environment) -> Iterator[Finding]:
    yield from _check_work_dir(profile.work_dir)
    for folder in scratch_folders(profile.spark, inputs.environment):
        yield machine.check_disk("disk of temporary files", folder)
        yield machine.check_writable("temporary files", folder)
    java_folder = java_temporary_folder(profile.spark, inputs.environment)
    yield host.check_executable("native libraries", java_folder)


def _check_work_dir(work_dir: str) -> Iterator[Finding]:
    try:
        work = storage.local_path(storage.absolute_url(work_dir))
    except UserError as error:
        yield red("work_dir", str(error), "choose another folder in the profile")
        return
    if work is None:
        yield yellow("work_dir", f"{work_dir} is not on this machine", f"fsspec ls {work_dir}")
    else:
        yield machine.check_writable("work_dir", Path(work))
        yield machine.check_disk("disk of work_dir", Path(work))
