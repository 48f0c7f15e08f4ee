"""All checks of the doctor, in the order in which a machine is put right."""

import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from deepfm import storage
from deepfm.doctor import installed, machine
from deepfm.doctor import profile as of_profile
from deepfm.doctor.finding import Finding, green, red, yellow
from deepfm.doctor.properties import property_mistakes, scratch_folders
from deepfm.doctor.shell import check_shell
from deepfm.errors import UserError
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings

DISTRIBUTION = "deepfm-spark"


@dataclass(frozen=True)
class Environment:
    """What the doctor is handed: the process it runs in, and what a user's jobs would be started with."""

    environment: Mapping[str, str]
    python: str  # its path
    python_version: tuple[int, int]
    lock: Path  # requirements.lock; only a checkout has it
    profile_path: str
    tracking_uri: str | None  # None: the profile's
    num_workers: int


def run_checks(around: Environment) -> Iterator[Finding]:
    """Findings as they are made; the slow ones (PyTorch, MLflow) take seconds."""
    yield machine.check_python(around.python_version, around.python)
    yield machine.check_java(around.environment)
    versions = _versions(around.lock)
    yield from _packages(*versions)
    has_horovod = versions[0].get("horovod") is not None
    include = sysconfig.get_path("include")
    yield machine.check_compiler(around.environment, include, horovod_is_there=has_horovod)
    build = installed.probe_builds(around.python)
    yield installed.check_torch(build)
    yield installed.check_horovod(build)
    try:
        profile = load_settings(around.profile_path, Profile)
    except UserError as error:
        yield red("profile", str(error), "--profile conf/profile/local.yaml, from the project's folder")
        profile = None
    mistakes = property_mistakes(profile.spark) if profile else []
    wants_gpus = bool(profile and not mistakes and of_profile.wants_gpus(profile))
    yield installed.check_gpus(build, of_profile.num_gpus_of_driver(), wanted=wants_gpus)
    # A cluster's profile leaves the master to spark-submit's flag.
    master = str(profile.spark.get("spark.master", "")) if profile else "local[*]"
    spark_version = versions[0].get("pyspark") or ""
    yield check_shell(around.environment, around.python, spark_version, master)
    if profile:
        yield green("profile", around.profile_path)
        yield from _of_spark(profile, mistakes, around)
        yield from _of_folders(profile, around)
        yield of_profile.check_mlflow(around.tracking_uri or profile.mlflow.tracking_uri)


def _versions(lock: Path):
    """({package: version found}, ranges, pins)."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    ranges, pins = installed.wanted_packages(DISTRIBUTION, text)
    return {name: installed.installed_version(name) for name in sorted(ranges)}, ranges, pins


def _packages(found, ranges, pins) -> Iterator[Finding]:
    if ranges:
        yield green("deepfm-spark", metadata.version(DISTRIBUTION))
        yield from installed.check_packages(found, ranges, pins)
    else:
        yield yellow("deepfm-spark", "is not installed, so what it needs is not known", "make env")


def _of_spark(profile: Profile, mistakes: list[str], around: Environment) -> Iterator[Finding]:
    if mistakes:
        yield red("Spark properties", "; ".join(mistakes), f"mend them under spark: in {around.profile_path}")
        return  # of which slots and memory follow
    yield of_profile.check_master(str(profile.spark.get("spark.master", "local[*]")))
    num_cores = psutil.cpu_count() or 1
    yield of_profile.check_slots(profile, around.num_workers, num_cores)
    memory = psutil.virtual_memory()
    wanted = of_profile.memory_wanted(profile, around.num_workers)
    yield machine.check_memory(memory.total, memory.available, wanted)


def _of_folders(profile: Profile, around: Environment) -> Iterator[Finding]:
    yield from _of_work_dir(profile.work_dir)
    for folder in scratch_folders(profile.spark, around.environment):
        yield machine.check_disk("disk of temporary files", folder)


def _of_work_dir(work_dir: str) -> Iterator[Finding]:
    try:
        work = storage.local_path(storage.absolute_url(work_dir))
    except UserError as error:
        yield red("work_dir", str(error), "name another folder in the profile")
        return
    if work is None:
        yield yellow("work_dir", f"{work_dir} is not on this machine", f"fsspec ls {work_dir}")
    else:
        yield machine.check_writable("work_dir", Path(work))
        yield machine.check_disk("disk of work_dir", Path(work))
