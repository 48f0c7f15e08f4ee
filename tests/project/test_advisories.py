"""The reasons for which accepted advisories are not reachable, and the form of the lists that name them."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("deepfm", "jobs", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.fixture
def audit(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / ".ci" / "audit"))
    return importlib.import_module("audit")


@pytest.fixture
def accepted(audit):
    return audit.read_accepted(audit.ACCEPTED)


def names_in(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports or mentions, and its texts."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            names.add(ast.unparse(node))
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names


@pytest.fixture(scope="module")
def names_by_file():
    return {
        path.relative_to(ROOT).as_posix(): names_in(ast.parse(path.read_text(encoding="utf-8")))
        for path in SOURCES
    }


@pytest.fixture
def files_naming(names_by_file):
    """files_naming(pattern) -> files that use a name which it matches."""

    def find(pattern: str) -> list[str]:
        return [file for file, names in names_by_file.items() if any(re.search(pattern, n) for n in names)]

    return find


def test_horovods_elastic_mode_is_not_used(files_naming):
    assert files_naming(r"^(horovod|hvd)\S*\.(elastic|run_elastic)|--min-np|--host-discovery-script") == []


def test_workers_are_started_by_horovod_spark_run_only(files_naming):
    assert files_naming(r"^horovod\.run$|^horovod\.runner\.(run|launch)\b|^horovodrun\b") == []
    assert files_naming(r"^horovod\.spark\.run$") == [
        "benchmarks/workers.py",
        "deepfm/launch/launch.py",
    ]


def test_no_exported_program_is_loaded(files_naming):
    loaders = r"^torch\.(export|jit)\.load$|aoti_load_package|^torch\.(hub|package)\b"
    assert files_naming(loaders) == []


def test_no_mlflow_server_is_started(files_naming):
    assert files_naming(r"^mlflow\.(server|gateway|pyfunc\.scoring_server)\b") == []


def test_the_checks_detect_violations():
    tree = ast.parse("import horovod.torch.elastic\nhorovod.spark.run_elastic()\nrun('horovodrun -np 2')")
    assert {"horovod.torch.elastic", "horovod.spark.run_elastic", "horovodrun -np 2"} <= names_in(tree)


def test_an_accepted_advisory_has_a_reason_and_an_existing_test(accepted):
    assert accepted
    for entry in accepted:
        assert entry.keys() == {"advisory", "package", "reason", "test"}
        assert re.fullmatch(r"(CVE|GHSA|PYSEC)-[\w-]+", entry["advisory"])
        assert entry["reason"].endswith(".")
        path, _, test = entry["test"].partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


def test_an_accepted_advisory_is_about_a_pinned_package_and_in_the_security_policy(accepted):
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for entry in accepted:
        (version,) = re.findall(rf"^{entry['package']}==(\S+)", lock, re.MULTILINE)
        test = entry["test"].partition("::")[2]
        row = rf"\| {entry['package']} {re.escape(version)} \| {entry['advisory']} \|.*\| `{test}` \|"
        assert re.search(row, policy), entry["advisory"]


def test_pyarrow_cannot_be_a_version_whose_files_run_code():
    (line,) = re.findall(r'"(pyarrow.*?)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert not Requirement(line).specifier.contains("14.0.0")


def report(*, vulns=(), skipped=()):
    """A report of pip-audit about torch, and packages that it skipped."""
    torch = {"name": "torch", "version": "2.13.0", "vulns": list(vulns)}
    return {"dependencies": [torch, *({"name": name, "skip_reason": "not found"} for name in skipped)]}


ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3.0"]}
ENTRY = {"advisory": "CVE-1", "package": "torch", "reason": "It is not used.", "test": "t.py::test_it"}


def test_an_advisory_is_accepted_by_any_of_its_names(audit):
    assert audit.find_problems(report(vulns=[ADVISORY]), [ENTRY]) == []
    assert audit.unused(report(vulns=[ADVISORY]), [ENTRY]) == []


def test_a_new_advisory_fails(audit):
    (problem,) = audit.find_problems(report(vulns=[ADVISORY]), [{**ENTRY, "package": "horovod"}])
    assert problem.startswith("torch 2.13.0: PYSEC-1 (CVE-1), fixed in 3.0; upgrade the pin")


def test_packages_that_were_not_audited_fail(audit):
    (problem,) = audit.find_problems(report(skipped=["a", "b", "c", "d"]), [])
    assert problem == "4 packages were not audited: a, b, c, …; check the network and the pins"


def test_an_accepted_advisory_that_is_not_reported_is_named(audit):
    assert audit.unused(report(), [ENTRY]) == ["torch: CVE-1 was not reported; remove it if it is fixed"]


def test_nothing_is_said_about_advisories_of_a_package_that_was_not_audited(audit):
    assert audit.unused(report(skipped=["horovod"]), [{**ENTRY, "package": "horovod"}]) == []
