"""What is installed beside what is wanted: packages, how PyTorch and Horovod were built, GPUs."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from deepfm.doctor.finding import Finding, green, red, yellow

#: Each has a line of its own; the others share one.
_SHOWN = ("torch", "horovod", "pyspark", "petastorm", "pyarrow", "numpy", "pandas", "mlflow")
_ANSWERS_WITHIN_S = 120
#: The environment made anew; runs, models and scores are elsewhere.
_ANEW = "rm -rf .venv && make env"

#: In a process of its own: a library built for another PyTorch may end the process that loads it.
_PROBE = """
import json, warnings; warnings.simplefilter("ignore")
import torch
told = {"cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "amx": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "gpu_bf16": torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)}
try:
    import horovod.torch as hvd
    told["horovod"] = {"gloo": bool(hvd.gloo_built()), "nccl": bool(hvd.nccl_built())}
except Exception as error:
    told["horovod_error"] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


def wanted_packages(distribution: str, lock: str) -> tuple[dict[str, Requirement], dict[str, str]]:
    """(ranges of the package's own metadata, pins of the lock file's text), by name.

    The ranges are empty where the distribution is not installed; Horovod is among them, test tools are not.
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
            continue  # a comment, an empty line
        if pin.marker is None or pin.marker.evaluate():
            yield pin.name, str(pin.specifier).removeprefix("==")


def installed_version(name: str) -> str | None:
    """Of a package; None where it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_packages(
    found: Mapping[str, str | None], ranges: Mapping[str, Requirement], pins: Mapping[str, str]
) -> list[Finding]:
    """A line for each that matters most and one for all others; `found`: None where one is missing."""
    findings = {
        name: _check_package(name, version, ranges.get(name), pins.get(name))
        for name, version in found.items()
    }
    shown = [findings[name] for name in _SHOWN if name in findings]
    others = [finding for name, finding in findings.items() if name not in _SHOWN]
    unwell = [finding for finding in others if finding.level != "green"]
    return shown + (unwell or [green("other packages", f"{len(others)} as wanted")])


def _check_package(name: str, found: str | None, wanted: Requirement | None, pin: str | None) -> Finding:
    ranges = str(wanted.specifier) if wanted else ""
    expected = " and ".join([f"wanted {ranges}"] * bool(ranges) + [f"locked at {pin}"] * bool(pin))
    remedy = f"make env, or: pip install '{name}=={pin}'" if pin else f"pip install '{wanted or name}'"
    if name == "horovod":
        remedy = "make env, which builds it"
    if found is None:
        return red(name, f"missing, {expected}", remedy)
    if wanted and not wanted.specifier.contains(found, prereleases=True):
        return red(name, f"{found}, {expected}", remedy)
    # A local label, as +cpu or +cu130, says how a version was built.
    if pin and Version(found).public != Version(pin).public:
        return yellow(name, f"{found}, {expected}", remedy)
    return green(name, f"{found}, as locked" if pin else f"{found}, {expected}".removesuffix(", "))


def probe_builds(python: str) -> dict:
    """How PyTorch and Horovod were built, and the GPUs they see; {"error": …} where PyTorch does not load."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        return {"error": last}
    return json.loads(done.stdout.splitlines()[-1])


def check_torch(build: Mapping) -> Finding:
    """What its matrix products can use."""
    if "error" in build:
        return red("PyTorch's build", f"does not load: {build['error']}", _ANEW)
    cuda = f"CUDA {build['cuda']}" if build["cuda"] else "CPU only"
    kinds = [name for name, has in (("AMX", build["amx"]), ("AVX512-BF16", build["avx512_bf16"])) if has]
    if build["gpu_bf16"]:
        kinds.append("the GPU")
    if kinds:
        return green("PyTorch's build", f"{cuda}; bf16 by {', '.join(kinds)}")
    return green("PyTorch's build", f"{cuda}; no bf16 in hardware, precision: bf16 computes in fp32 here")


def check_horovod(build: Mapping) -> Finding:
    """Which ways its workers have to exchange gradients."""
    what = "Horovod's build"
    remedy = f"rm -rf ~/.cache/deepfm-spark/horovod-* && {_ANEW}, which builds it for this PyTorch"
    if "error" in build:
        return red(what, "cannot be loaded without PyTorch", remedy)
    if "horovod" not in build:
        return red(what, f"does not load: {build['horovod_error']}", remedy)
    found = ", ".join(
        name.capitalize() if name == "gloo" else "NCCL" for name, has in build["horovod"].items() if has
    )
    if not build["horovod"]["gloo"]:
        return red(what, f"{found or 'nothing'}, wanted Gloo", remedy)
    if build["gpus"] and not build["horovod"]["nccl"]:
        return yellow(what, f"{found}; its workers cannot train on the GPUs", f"install nvcc, then {remedy}")
    return green(what, found)


def check_gpus(build: Mapping, driver_sees: int, *, wanted: bool) -> Finding:
    """GPUs that PyTorch can use beside those of the driver; `wanted`: the profile asks Spark for some."""
    seen = build.get("gpus", [])
    if seen:
        return green("GPUs", f"{len(seen)} x {seen[0]}")
    if driver_sees:
        return yellow(
            "GPUs",
            f"the driver has {driver_sees}, PyTorch sees none (CUDA of its build: {build.get('cuda')})",
            f"install a PyTorch with CUDA of the driver's version, then: {_ANEW}",
        )
    if wanted:
        remedy = "take the spark.*.resource.gpu.* lines out of the profile, or run where there are GPUs"
        return red("GPUs", "none here, but the profile asks Spark for some", remedy)
    return green("GPUs", "none; workers train on CPUs")
