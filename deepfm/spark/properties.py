"""Validation of Spark properties that Spark itself would reject late or with a Java stack trace."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
#: Spark needs 450 MiB of heap, and Java reserves some of the configured memory.
_MIN_MEMORY = 512 * 2**20
_HOST = r"([^\s:/,@]+|\[[0-9a-fA-F:.]+\]):\d+"
_OTHER_MASTERS = r"(?!spark:|local)[a-z][a-z0-9+.-]*://\S+"  # k8s://… and other cluster managers
_MASTERS = (
    r"local|local\[([1-9]\d*|\*)( *, *\d+)?\]|local-cluster\[ *\d+ *, *\d+ *, *\d+ *\]|yarn|"
    rf"spark://{_HOST}(,{_HOST})*|{_OTHER_MASTERS}"
)
_POSITIVE_INTEGER = ("an integer of at least 1", r"[1-9]\d*")
#: Description and pattern of the values of a property.
_FORMATS = {
    "spark.master": ("local[2], local[*], spark://HOST:PORT, yarn or k8s://URL", _MASTERS),
    # Passed to Java unchanged, which does not accept `gb`.
    "spark.driver.memory": ("a size such as 4g or 800m", r"\d+[kmgtKMGT]?"),
    "spark.executor.memory": ("a size such as 4g or 800m", r"(?i:\d+(b|[kmgtp]b?)?)"),
    "spark.task.cpus": _POSITIVE_INTEGER,
    "spark.executor.cores": _POSITIVE_INTEGER,
    "spark.executor.instances": ("an integer", r"\d+"),  # 0: dynamic allocation adds executors
    "spark.cores.max": _POSITIVE_INTEGER,
    "spark.sql.shuffle.partitions": (_POSITIVE_INTEGER[0], r"[1-9]\d*|auto"),  # auto: on Databricks
}
_GPU_AMOUNT = ("a number", r"\d+(\.\d+)?")


def property_errors(spark: Mapping[str, object]) -> list[str]:
    """Return one line per invalid property: expected and found."""
    return [*_format_errors(spark), *_size_errors(spark)]


def _format_errors(spark: Mapping[str, object]) -> Iterator[str]:
    for key, value in spark.items():
        is_gpu_amount = key.endswith(".resource.gpu.amount")
        expected, pattern = _GPU_AMOUNT if is_gpu_amount else _FORMATS.get(key, ("", ".*"))
        if not re.fullmatch(pattern, str(value).strip(), re.DOTALL):
            yield f"{key}: expected {expected}, found {value}"


def _size_errors(spark: Mapping[str, object]) -> Iterator[str]:
    for key in ("spark.driver.memory", "spark.executor.memory"):
        size = memory_bytes(spark.get(key))
        if size is not None and size < _MIN_MEMORY:
            yield f"{key}: expected at least 512m, found {spark[key]}"
    task_cpus, cores = _parse_integer(spark.get("spark.task.cpus", 1)), _executor_cores(spark)
    if task_cpus and cores and task_cpus > cores:
        yield f"spark.task.cpus: expected at most the cores of an executor, {cores}, found {task_cpus}"


def _executor_cores(spark: Mapping[str, object]) -> int | None:
    master = str(spark.get("spark.master", ""))
    if not master.startswith("local"):
        return _parse_integer(spark.get("spark.executor.cores"))
    match = re.fullmatch(r"local(?:\[(\d+).*)?", master)
    return int(match[1] or 1) if match else None


def memory_bytes(value: object) -> int | None:
    """Parse a size: 1g -> 2**30; None if it is not a size."""
    size = re.fullmatch(r"(\d+)([bkmgtp]?)b?", str(value).strip().lower())
    return int(size[1]) * _UNITS[size[2]] if size else None


def _parse_integer(value: object) -> int | None:
    return int(str(value)) if re.fullmatch(r"\d+", str(value)) else None


def scratch_folders(spark: Mapping[str, object], environment: Mapping[str, str]) -> list[Path]:
    """Return Spark's folders for spills and shuffles, then Python's temporary folder, without duplicates."""
    # Spark's environment variable precedes the property; Java ignores TMPDIR.
    spark_folders = environment.get("SPARK_LOCAL_DIRS") or spark.get("spark.local.dir") or "/tmp"
    names = [*str(spark_folders).split(","), environment.get("TMPDIR") or "/tmp"]
    return list(dict.fromkeys(Path(name.strip()) for name in names if name.strip()))
