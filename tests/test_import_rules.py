"""Rules for imports between the parts of the project."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("deepfm", "jobs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
PACKAGE = {path: tree for path, tree in SOURCES.items() if path.startswith("deepfm/")}

#: Stages from the lowest to the highest: a module imports from its own stage and from those below.
LAYERS = [
    "deepfm.errors",
    "deepfm.environment_faults",
    "deepfm.model_specs",
    "deepfm.field_name",
    "deepfm.value_text",
    "deepfm.kinds",
    "deepfm.fields",
    "deepfm.storage",
    "deepfm.lock",
    "deepfm.ownership",
    "deepfm.html",
    "deepfm.weights",
    "deepfm.distributed",
    "deepfm.metrics",
    "deepfm.settings",
    "deepfm.synthetic",
    "deepfm.spark",
    "deepfm.click_log",
    "deepfm.features",
    "deepfm.dataset",
    "deepfm.models",
    "deepfm.model_factory",
    "deepfm.training",
    "deepfm.launch",
    "deepfm.artifact",
    "deepfm.tracking",
    "deepfm.registry",
    "deepfm.experiments",
    "deepfm.scoring",
    "deepfm.monitoring",
    "deepfm.cleanup",
    "deepfm.analysis",
    "deepfm.doctor",
    "deepfm.cli",
    "deepfm.__main__",
    "jobs",
]

#: The only folders that import a library.
HOMES = {
    "petastorm": ("deepfm/dataset/",),
    "horovod": ("deepfm/distributed/", "deepfm/launch/"),
    "mlflow": ("deepfm/tracking/", "deepfm/artifact/"),
    "optuna": ("deepfm/experiments/tune/",),
    "yaml": ("deepfm/settings/",),
    "click": ("deepfm/cli/",),
    "argparse": (),
    "packaging": ("deepfm/doctor/",),
}

#: Folders that need no JVM and no other process, so that their tests take seconds.
TORCH_ONLY = ("deepfm/models/", "deepfm/metrics/", "deepfm/training/")
WITHOUT_TORCH = (
    "deepfm/kinds/",
    "deepfm/settings/",
    "deepfm/spark/",
    "deepfm/click_log/",
    "deepfm/features/",
)
MAX_FILES_PER_FOLDER = 15


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of everything a module imports, at its top or in a function; `from` gives both parts."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports are not used"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def libraries(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imported(tree)}


def layer_of(name: str) -> int | None:
    """Index in LAYERS of a dotted name; None if it is not part of the project."""
    parts = name.split(".")
    if parts[-1] == "__main__":  # an entry point, in whatever folder
        return LAYERS.index("deepfm.__main__")
    return next((LAYERS.index(n) for n in (".".join(parts[:2]), parts[0]) if n in LAYERS), None)


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def in_folders(folders: tuple[str, ...]) -> list[str]:
    return [path for path in PACKAGE if path.startswith(folders)]


def test_every_module_belongs_to_a_layer():
    assert [path for path in SOURCES if layer_of(dotted(path)) is None and path != "deepfm/__init__.py"] == []


@pytest.mark.parametrize("path", SOURCES)
def test_a_module_imports_from_its_own_layer_and_below(path):
    own = layer_of(dotted(path)) if path != "deepfm/__init__.py" else 0
    assert {name for name in imported(SOURCES[path]) if (layer_of(name) or 0) > own} == set()


def test_modules_do_not_import_each_other_in_cycles():
    modules = {dotted(path): tree for path, tree in PACKAGE.items()}
    edges = {name: imported(tree) & modules.keys() - {name} for name, tree in modules.items()}
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert sorted(edges) == []


def test_a_folder_is_small_enough_to_read():
    counts = Counter(Path(path).parent.as_posix() for path in SOURCES)
    assert {folder: num for folder, num in counts.items() if num > MAX_FILES_PER_FOLDER} == {}


@pytest.mark.parametrize("path", in_folders(TORCH_ONLY))
def test_models_metrics_and_training_need_torch_only(path):
    assert libraries(PACKAGE[path]) & {"pyspark", "petastorm", "horovod", "mlflow"} == set()
    assert not any(name.startswith("deepfm.settings") for name in imported(PACKAGE[path]))


@pytest.mark.parametrize("path", in_folders(WITHOUT_TORCH))
def test_settings_and_features_do_not_import_torch(path):
    assert "torch" not in libraries(PACKAGE[path])
    assert not any(name.startswith("deepfm.models") for name in imported(PACKAGE[path]))


def test_models_do_not_import_features():
    assert [
        path
        for path in in_folders(("deepfm/models/",))
        if any(name.startswith(("deepfm.features", "deepfm.click_log")) for name in imported(PACKAGE[path]))
    ] == []


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_in_one_place(library):
    importers = [path for path, tree in SOURCES.items() if library in libraries(tree)]
    assert [path for path in importers if not path.startswith(HOMES[library])] == []


def uses(tree: ast.AST) -> set[str]:
    """Dotted names that a module mentions, such as os.environ or torch.load."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Name))}


@pytest.mark.parametrize("path", [path for path in PACKAGE if not path.startswith("deepfm/cli/")])
def test_only_the_command_lines_read_arguments_and_environment(path):
    names = uses(PACKAGE[path]) | imported(PACKAGE[path])
    assert names & {"os.environ", "os.environb", "os.getenv", "os.putenv", "sys.argv"} == set()
    assert not any(name.endswith(("SparkSession.builder", "SparkContext.getOrCreate")) for name in names)


@pytest.mark.parametrize("path", PACKAGE)
def test_no_module_executes_what_it_reads(path):
    tree = PACKAGE[path]
    assert libraries(tree) & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"} == set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        assert name not in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}, call.lineno
        if name == "torch.load":
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert options.get("weights_only") == "True", call.lineno


def test_the_rules_detect_violations():
    tree = ast.parse(
        "def f():\n    import pickle, horovod.torch as hvd\n    from deepfm.scoring import drift\n"
    )
    assert libraries(tree) == {"pickle", "horovod", "deepfm"}
    assert layer_of("deepfm.scoring.drift") > layer_of("deepfm.features.parse")
    assert layer_of("numpy") is None
    assert "os.environ" in uses(ast.parse("import os\nos.environ.get('HOME')"))
