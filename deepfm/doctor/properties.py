"""Spark properties that Spark itself would refuse late or in a trace of Java's, and the folders they name."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
#: Spark starts with 450 MiB, of which Java keeps some for itself.
_LEAST_MEMORY = 512 * 2**20
_HOST = r"([^\s:/,@]+|\[[0-9a-fA-F:.]+\]):\d+"
_OTHER_MASTERS = r"(?!spark:|local)[a-z][a-z0-9+.-]*://\S+"  # k8s://…, and those of other cluster managers
_MASTERS = (
    r"local|local\[([1-9]\d*|\*)( *, *\d+)?\]|local-cluster\[ *\d+ *, *\d+ *, *\d+ *\]|yarn|"
    rf"spark://{_HOST}(,{_HOST})*|{_OTHER_MASTERS}"
)
_WHOLE = ("a whole number from 1 on", r"[1-9]\d*")
#: What is expected of a property, and how it looks.
_FORMS = {
    "spark.master": ("local[2], local[*], spark://HOST:PORT, yarn or k8s://URL", _MASTERS),
    # Handed to Java as it is, which knows no `gb`.
    "spark.driver.memory": ("such as 4g or 800m", r"\d+[kmgtKMGT]?"),
    "spark.executor.memory": ("such as 4g or 800m", r"(?i:\d+(b|[kmgtp]b?)?)"),
    "spark.task.cpus": _WHOLE,
    "spark.executor.cores": _WHOLE,
    "spark.executor.instances": ("a whole number", r"\d+"),  # 0: dynamic allocation adds them
    "spark.cores.max": _WHOLE,
    "spark.sql.shuffle.partitions": (_WHOLE[0], r"[1-9]\d*|auto"),  # auto: on Databricks
}
_AMOUNT = ("a number", r"\d+(\.\d+)?")


def property_mistakes(spark: Mapping[str, object]) -> list[str]:
    """What is wrong with them, a line each: expected, found."""
    return [*_wrong_forms(spark), *_too_little(spark)]


def _wrong_forms(spark: Mapping[str, object]) -> Iterator[str]:
    for key, value in spark.items():
        expected, form = _AMOUNT if key.endswith(".resource.gpu.amount") else _FORMS.get(key, ("", ".*"))
        if not re.fullmatch(form, str(value).strip(), re.DOTALL):
            yield f"{key}: expected {expected}, found {value}"


def _too_little(spark: Mapping[str, object]) -> Iterator[str]:
    for key in ("spark.driver.memory", "spark.executor.memory"):
        size = memory_bytes(spark.get(key))
        if size is not None and size < _LEAST_MEMORY:
            yield f"{key}: expected at least 512m, found {spark[key]}"
    of_task, cores = _whole(spark.get("spark.task.cpus", 1)), _cores_of_an_executor(spark)
    if of_task and cores and of_task > cores:
        yield f"spark.task.cpus: expected at most the cores of an executor, {cores}, found {of_task}"


def _cores_of_an_executor(spark: Mapping[str, object]) -> int | None:
    master = str(spark.get("spark.master", ""))
    if not master.startswith("local"):
        return _whole(spark.get("spark.executor.cores"))
    found = re.fullmatch(r"local(?:\[(\d+).*)?", master)
    return int(found[1] or 1) if found else None


def memory_bytes(value: object) -> int | None:
    """2**30 of 1g; None of what is no size."""
    size = re.fullmatch(r"(\d+)([bkmgtp]?)b?", str(value).strip().lower())
    return int(size[1]) * _UNITS[size[2]] if size else None


def _whole(value: object) -> int | None:
    return int(str(value)) if re.fullmatch(r"\d+", str(value)) else None


def scratch_folders(spark: Mapping[str, object], environment: Mapping[str, str]) -> list[Path]:
    """Where Spark spills and shuffles, then where Python unpacks models; each once."""
    # Spark reads its variable first, and of Java's temporary folder knows nothing of TMPDIR.
    of_spark = environment.get("SPARK_LOCAL_DIRS") or spark.get("spark.local.dir") or "/tmp"
    names = [*str(of_spark).split(","), environment.get("TMPDIR") or "/tmp"]
    return list(dict.fromkeys(Path(name.strip()) for name in names if name.strip()))
