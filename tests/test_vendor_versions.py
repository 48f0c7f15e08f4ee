"""Private APIs of other packages: the versions they were written for, and the only modules that use them."""

import ast
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Package -> (versions that the workarounds were written for, files with the workarounds).
WORKAROUNDS = {
    "horovod": (
        ("0.28.1",),
        ("deepfm/distributed/collectives.py", "deepfm/launch/horovod_patches.py", ".ci/horovod_settings.py"),
    ),
    "pyspark": (("4.0.5", "3.5.9"), ("deepfm/spark/internals.py",)),
    "mlflow": (("3.17.2",), ("deepfm/tracking/logging.py", "deepfm/tracking/run.py")),
    "petastorm": (("0.13.1",), ("deepfm/dataset/petastorm_metadata.py", "deepfm/dataset/row_groups.py")),
}
#: Modules and functions that the packages do not document, and the package they belong to.
PRIVATE_MODULES = {
    "horovod.runner": "horovod",
    "horovod.spark.task": "horovod",
    "mlflow.data.dataset_source_registry": "mlflow",
    "mlflow.data.meta_dataset": "mlflow",
    "mlflow.utils.autologging_utils": "mlflow",
    "mlflow.utils.logging_utils": "mlflow",
    "mlflow.utils.mlflow_tags": "mlflow",
    "mlflow.utils.time": "mlflow",
    "petastorm.etl.dataset_metadata._generate_unischema_metadata": "petastorm",
    "pyspark.java_gateway": "pyspark",
}
#: Attributes of SparkContext, SparkSession and DataFrame.
SPARK_ATTRIBUTES = {
    "_active_spark_context", "_conf", "_ensure_initialized", "_gateway", "_jconf", "_jdf", "_jrdd", "_jsc",
    "_jsparkSession", "_jvm", "_sc", "_ssql_ctx",
}  # fmt: skip
#: Attributes of Petastorm's Reader.
PETASTORM_ATTRIBUTES = {"_workers_pool", "_results_queues"}
MODULES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "deepfm").rglob("*.py"))
}


def private_uses(tree: ast.AST) -> set[tuple[str, str]]:
    """Return (package, name) of every private API that a module uses."""
    uses = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
            # An attribute of `self` is the module's own.
            packages = {"pyspark": SPARK_ATTRIBUTES, "petastorm": PETASTORM_ATTRIBUTES}
            uses |= {(name, node.attr) for name, attributes in packages.items() if node.attr in attributes}
        for name in names:
            for module, package in PRIVATE_MODULES.items():
                if f"{name}.".startswith(f"{module}."):
                    uses.add((package, name))
    return uses


@pytest.mark.parametrize("package", WORKAROUNDS)
def test_the_workarounds_were_written_for_the_installed_version(package):
    versions, files = WORKAROUNDS[package]
    installed = version(package)
    assert installed in versions, (
        f"{package} {installed} is installed, the workarounds in {', '.join(files)} were written for "
        f"{' and '.join(versions)}: check that they still work, then add the version here"
    )


@pytest.mark.parametrize("path", MODULES)
def test_private_apis_are_used_in_the_listed_files_only(path):
    uses = private_uses(MODULES[path])
    assert {(package, name) for package, name in uses if path not in WORKAROUNDS[package][1]} == set()


@pytest.mark.parametrize("package", WORKAROUNDS)
def test_the_listed_files_use_private_apis(package):
    for file in WORKAROUNDS[package][1]:
        assert (ROOT / file).is_file()
        if file in MODULES:
            assert package in {name for name, _ in private_uses(MODULES[file])}


def test_private_apis_are_detected():
    tree = ast.parse(
        "from horovod.runner import gloo_run\nimport mlflow.utils.autologging_utils as utils\n"
        "from mlflow.utils import logging_utils\n"
        "def f(context):\n    return context._jsc.sc(), SparkContext._jvm, context.sparkUser()\n"
    )
    assert private_uses(tree) == {
        ("horovod", "horovod.runner.gloo_run"),
        ("mlflow", "mlflow.utils.autologging_utils"),
        ("mlflow", "mlflow.utils.logging_utils"),
        ("pyspark", "_jsc"),
        ("pyspark", "_jvm"),
    }
