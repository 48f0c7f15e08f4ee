"""Checks of the installation: package versions, builds of PyTorch and Horovod, GPUs."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from deepfm.doctor.finding import Finding, green, red, yellow

#: Packages with a line each; all others share one line.
_SHOWN = ("torch", "horovod", "pyspark", "petastorm", "pyarrow", "numpy", "pandas", "mlflow")
_PROBE_TIMEOUT_S = 120
#: Recreates the environment; runs, models and scores are stored elsewhere.
_REINSTALL = "rm -rf .venv && make env"

#: Runs in a separate process: a library built for another PyTorch may crash the process that loads it.
_PROBE = """
import json, warnings; warnings.simplefilter("ignore")
import torch
build = {"cuda": torch.version.cuda,
         "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
         "amx": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
         "gpu_bf16": torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)}
try:
    import horovod.torch as hvd
    build["horovod"] = {"gloo": bool(hvd.gloo_built()), "nccl": bool(hvd.nccl_built())}
except Exception as error:
    build["horovod_error"] = f"{type(error).__name__}: {error}"
print(json.dumps(build))
"""


def required_packages(distribution: str, lock: str) -> tuple[dict[str, Requirement], dict[str, str]]:
    """Return (version ranges of the package's metadata, pins of the lock file's text), by package name.

    The ranges are empty if the distribution is not installed; they include Horovod, but no test tools.
    """
    try:
        declared = [Requirement(line) for line in metadata.requires(distribution) or ()]
    except metadata.PackageNotFoundError:
        declared = []
    for_jobs = [r for r in declared if r.marker is None or r.marker.evaluate({"extra": "horovod"})]
    return {r.name: r for r in for_jobs}, dict(_pins(lock.splitlines()))


def _pins(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        try:
            pin = Requirement(line)
        except InvalidRequirement:
            continue  # a comment or an empty line
        if pin.marker is None or pin.marker.evaluate():
            yield pin.name, str(pin.specifier).removeprefix("==")


def installed_version(name: str) -> str | None:
    """Return the version of a package; None if it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_packages(
    versions: Mapping[str, str | None], ranges: Mapping[str, Requirement], pins: Mapping[str, str]
) -> list[Finding]:
    """Check installed versions (None: missing): a line for each main package and one for all others."""
    findings = {
        name: _check_package(name, version, ranges.get(name), pins.get(name))
        for name, version in versions.items()
    }
    shown = [findings[name] for name in _SHOWN if name in findings]
    others = [finding for name, finding in findings.items() if name not in _SHOWN]
    problems = [finding for finding in others if finding.level != "green"]
    return shown + (problems or [green("other packages", f"{len(others)} as required")])


def _check_package(
    name: str, version: str | None, requirement: Requirement | None, pin: str | None
) -> Finding:
    ranges = str(requirement.specifier) if requirement else ""
    expected = " and ".join([f"required {ranges}"] * bool(ranges) + [f"locked at {pin}"] * bool(pin))
    remedy = f"make env, or: pip install '{name}=={pin}'" if pin else f"pip install '{requirement or name}'"
    if name == "horovod":
        remedy = "make env, which builds it"
    if version is None:
        return red(name, f"missing, {expected}", remedy)
    if requirement and not requirement.specifier.contains(version, prereleases=True):
        return red(name, f"{version}, {expected}", remedy)
    # A local version label such as +cpu or +cu130 names a build of the same version.
    if pin and Version(version).public != Version(pin).public:
        return yellow(name, f"{version}, {expected}", remedy)
    return green(name, f"{version}, as locked" if pin else f"{version}, {expected}".removesuffix(", "))


def probe_builds(python: str) -> dict:
    """Return the builds of PyTorch and Horovod and their GPUs; {"error": …} if PyTorch cannot be imported."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    if done.returncode:
        last_line = (
            done.stderr.strip().splitlines() or [f"the process exited with status {done.returncode}"]
        )[-1]
        return {"error": last_line}
    return json.loads(done.stdout.splitlines()[-1])


def check_torch(build: Mapping) -> Finding:
    """Check the hardware support of PyTorch's matrix products."""
    if "error" in build:
        return red("PyTorch's build", f"cannot be imported: {build['error']}", _REINSTALL)
    cuda = f"CUDA {build['cuda']}" if build["cuda"] else "CPU only"
    kinds = [name for name, has in (("AMX", build["amx"]), ("AVX512-BF16", build["avx512_bf16"])) if has]
    if build["gpu_bf16"]:
        kinds.append("the GPU")
    if kinds:
        return green("PyTorch's build", f"{cuda}; bf16 on {', '.join(kinds)}")
    return green("PyTorch's build", f"{cuda}; no hardware bf16, so precision: bf16 computes in fp32 here")


def check_horovod(build: Mapping) -> Finding:
    """Check the backends of Horovod's gradient exchange."""
    what = "Horovod's build"
    remedy = f"rm -rf ~/.cache/deepfm-spark/horovod-* && {_REINSTALL}, which builds it for this PyTorch"
    if "error" in build:
        return red(what, "cannot be imported without PyTorch", remedy)
    if "horovod" not in build:
        return red(what, f"cannot be imported: {build['horovod_error']}", remedy)
    backends = ", ".join(
        name.capitalize() if name == "gloo" else "NCCL" for name, has in build["horovod"].items() if has
    )
    if not build["horovod"]["gloo"]:
        return red(what, f"{backends or 'nothing'}, required Gloo", remedy)
    if build["gpus"] and not build["horovod"]["nccl"]:
        return yellow(
            what, f"{backends}; its workers cannot train on the GPUs", f"install nvcc, then {remedy}"
        )
    return green(what, backends)


def check_gpus(build: Mapping, num_driver_gpus: int, *, requested: bool) -> Finding:
    """Compare the GPUs of PyTorch with those of the driver; `requested`: the profile requests GPUs."""
    visible = build.get("gpus", [])
    if visible:
        return green("GPUs", f"{len(visible)} x {visible[0]}")
    if num_driver_gpus:
        return yellow(
            "GPUs",
            f"the driver has {num_driver_gpus}, PyTorch sees none (CUDA of its build: {build.get('cuda')})",
            f"install a PyTorch for the driver's CUDA version, then: {_REINSTALL}",
        )
    if requested:
        remedy = "remove the spark.*.resource.gpu.* lines from the profile, or run on a machine with GPUs"
        return red("GPUs", "none here, but the profile requests GPUs", remedy)
    return green("GPUs", "none; workers train on CPUs")
