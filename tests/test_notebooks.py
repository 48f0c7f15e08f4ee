"""Notebooks: stored with outputs, without absolute paths, and executable."""

import ast
import importlib
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 1_000_000
#: Rows per day, by notebook number. With fewer rows the DeepFM of the last one is not better than LR.
ROWS_PER_DAY = {"1": 2_000, "2": 2_000, "3": 2_000, "4": 10_000}
#: Absolute paths, except those inside a URL or a relative path.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.…-])/(?:home|root|Users|tmp|var|opt|mnt|work|usr)/|file:///?[\w.]|[A-Z]:\\\\"
)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def run_notebooks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    return importlib.import_module("run_notebooks")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def test_there_are_four_notebooks():
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


@every_notebook
def test_a_notebook_is_stored_with_the_outputs_of_one_run(path):
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.output_type for output in outputs(notebook)} <= {
        "display_data",
        "execute_result",
        "stream",
    }
    assert [output for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 1
    assert path.stat().st_size < MAX_BYTES
    assert notebook.metadata.kernelspec.name == "python3"


@every_notebook
def test_a_notebook_defines_no_functions_or_classes(path):
    notebook = nbformat.read(path, as_version=4)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    trees = [ast.parse(cell.source) for cell in code_cells(notebook)]
    assert [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)] == []
    assert notebook.cells[0].source.startswith(f"# {path.stem[0]} · ")


@every_notebook
def test_a_notebook_contains_no_absolute_paths(path):
    notebook = nbformat.read(path, as_version=4)
    for output in outputs(notebook):
        output.get("data", {}).pop("image/png", None)
    match = ABSOLUTE_PATH.search(json.dumps(notebook, ensure_ascii=False))
    assert match is None, match.string[match.start() - 80 : match.end() + 80]
    assert str(Path.home()) not in json.dumps(notebook)


def test_absolute_paths_are_detected():
    for text in ("saved to /tmp/x", "file:///data/log", '"/home/ann/log"', r"C:\\log"):
        assert ABSOLUTE_PATH.search(text)
    for text in (
        "work/notebooks/1_explore",
        "a/tmp/b",
        "models:/name/1",
        "https://example.org/usr/",
        '"file://" + url',
    ):
        assert not ABSOLUTE_PATH.search(text)


def write_notebook(folder, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "some.ipynb")
    return folder / "some.ipynb"


def test_constants_are_used_in_a_run_and_not_stored(run_notebooks, tmp_path):
    path = write_notebook(tmp_path, "ROWS = 5", "import sys\nprint(ROWS)\nprint('warning', file=sys.stderr)")
    notebook = run_notebooks.clean(run_notebooks.execute(path, ROWS=7))
    assert [output.text for output in outputs(notebook)] == ["7\n"]
    assert notebook.cells[0].source == "ROWS = 5"


@pytest.mark.long
def test_a_failing_cell_raises_and_nothing_is_stored(run_notebooks, tmp_path):
    path = write_notebook(tmp_path, "1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_notebooks.main([path])
    assert path.read_bytes() == before


@pytest.mark.long
@every_notebook
def test_a_notebook_runs_in_a_new_kernel(path, run_notebooks, tmp_path):
    notebook = run_notebooks.execute(
        path, ROWS_PER_DAY=ROWS_PER_DAY[path.stem[0]], WORK=str(tmp_path / "work")
    )
    assert all(cell.execution_count for cell in code_cells(notebook))
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
