"""Who may know whom, read from the imports; the rules are those of the README's picture of the house."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("deepfm", "jobs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
PACKAGE = {path: tree for path, tree in SOURCES.items() if path.startswith("deepfm/")}

#: From the lowest to the highest: a layer imports from itself and from those below.
LAYERS = [
    {"deepfm.errors"},
    {"deepfm.fields"},
    {"deepfm.settings.field_groups"},
    {
        "deepfm.settings.loader",
        "deepfm.settings.data",
        "deepfm.settings.deployment",
        "deepfm.storage",
        "deepfm.lock",
        "deepfm.spark.java",
    },
    {"deepfm.html"},
    {"deepfm.cli.synthetic", "deepfm.synthetic.truth"},
    {"deepfm.features"},
    {"deepfm.dataset"},
    # One layer: settings name the kinds of models, and build.py alone makes models of settings.
    {"deepfm.models", "deepfm.settings.model"},
    {"deepfm.training"},
    {"deepfm.registry"},
    {"deepfm.tuning"},
    {"deepfm.scoring"},
    {"deepfm.doctor"},
    {"deepfm.__main__", "jobs"},
]

SETTINGS = {
    "deepfm.settings.loader",
    "deepfm.settings.data",
    "deepfm.settings.model",
    "deepfm.settings.deployment",
}

#: Where alone a library may be imported.
HOMES = {
    "petastorm": ("deepfm/dataset/",),
    "horovod": tuple(f"deepfm/training/{name}.py" for name in ("world", "launch", "interrupt")),
    "mlflow": ("deepfm/registry/",),
    "optuna": ("deepfm/tuning/",),
    "yaml": ("deepfm/settings/loader.py",),
    "click": ("jobs/", "deepfm/synthetic/click_log.py", "deepfm/__main__.py"),
    "argparse": ("jobs/",),
    "packaging": ("deepfm/doctor/",),
}

#: What is tested with bare torch, in seconds.
BARE_TORCH = (
    "deepfm/models/",
    *(
        f"deepfm/training/{name}.py"
        for name in (
            "ahead", "batch", "checkpoint", "course", "device", "evaluation", "exchange", "field_tally",
            "ftrl", "gauc", "importance", "lookups", "loop", "metrics", "optimizer", "schedule", "slices",
            "step_curve",
        )
    ),
)  # fmt: skip


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of everything a module imports, at its top or in a function; `from` gives both parts."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def libraries(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imported(tree)}


def layer_of(name: str) -> int | None:
    """The layer of a dotted name, None for what is not ours."""
    parts = name.split(".")
    for index, layer in enumerate(LAYERS):
        if ".".join(parts[:2]) in layer or parts[0] in layer:
            return index
    return None


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_every_module_has_a_layer():
    assert [path for path in SOURCES if layer_of(dotted(path)) is None and path != "deepfm/__init__.py"] == []


@pytest.mark.parametrize("path", SOURCES)
def test_a_module_imports_from_its_own_layer_and_below(path):
    own = layer_of(dotted(path)) if path != "deepfm/__init__.py" else 0
    above = {name for name in imported(SOURCES[path]) if (layer_of(name) or 0) > own}
    assert above == set()


def test_features_and_models_never_see_each_other():
    for path, tree in PACKAGE.items():
        stage = dotted(path).split(".")[1:2]
        other = {"features": "deepfm.models", "models": "deepfm.features"}.get("".join(stage))
        assert not other or not any(name.startswith(other) for name in imported(tree)), path


def test_config_and_storage_and_synthetic_do_not_import_each_other_in_circles():
    assert not any(
        name.startswith("deepfm.settings.loader") for name in imported(SOURCES["deepfm/storage.py"])
    )


def test_features_never_import_torch():
    assert [p for p in PACKAGE if p.startswith("deepfm/features/") and "torch" in libraries(PACKAGE[p])] == []


def test_models_never_see_settings():
    assert [
        path
        for path, tree in PACKAGE.items()
        if path.startswith("deepfm/models/")
        and path != "deepfm/model_factory.py"
        and SETTINGS & imported(tree)
    ] == []


@pytest.mark.parametrize("path", [path for path in PACKAGE if path.startswith(BARE_TORCH)])
def test_the_mathematics_needs_bare_torch_only(path):
    assert libraries(PACKAGE[path]) & {"pyspark", "petastorm", "horovod", "mlflow"} == set()


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_one_home(library):
    visitors = [path for path, tree in SOURCES.items() if library in libraries(tree)]
    assert [path for path in visitors if not path.startswith(HOMES[library])] == []


def uses(tree: ast.AST) -> set[str]:
    """Dotted names that a module mentions, as os.environ or torch.load."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Name))}


#: `python -m deepfm` is a command line; all it imports of the package is handed its surroundings.
@pytest.mark.parametrize("path", [path for path in PACKAGE if path != "deepfm/__main__.py"])
def test_the_package_is_handed_its_surroundings(path):
    taken = {"os.environ", "os.environb", "os.getenv", "os.putenv", "sys.argv"}
    names = uses(PACKAGE[path]) | imported(PACKAGE[path])
    assert names & taken == set()
    assert not any(name.endswith(("SparkSession.builder", "SparkContext.getOrCreate")) for name in names)


@pytest.mark.parametrize("path", PACKAGE)
def test_nothing_that_is_read_is_executed(path):
    tree = PACKAGE[path]
    assert libraries(tree) & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"} == set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        assert name not in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}, call.lineno
        if name == "torch.load":
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert options.get("weights_only") == "True", call.lineno


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if p.startswith(("jobs/", "deepfm/__main__")) and p != "jobs/command.py"],
)
def test_a_job_stays_short(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) < 100


def test_the_rules_notice_what_they_forbid():
    tree = ast.parse(
        "def f():\n    import pickle, horovod.torch as hvd\n    from deepfm.scoring import drift\n"
    )
    assert libraries(tree) == {"pickle", "horovod", "deepfm"}
    assert layer_of("deepfm.scoring.drift") > layer_of("deepfm.click_log.parse")
    assert layer_of("numpy") is None
    assert "os.environ" in uses(ast.parse("import os\nos.environ.get('HOME')"))
