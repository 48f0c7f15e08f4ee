"""Run each notebook in a new kernel and store it with its outputs.

python .ci/run_notebooks.py             all of them
python .ci/run_notebooks.py NOTEBOOK    one
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
#: Limit of one cell.
_TIMEOUT_S = 900


def execute(path: Path, **constants: object) -> NotebookNode:
    """Run a notebook in its folder and return it with its outputs; raises the error of a failed cell.

    `constants` are assigned after the first code cell, which defines the sizes. The returned notebook does
    not contain these assignments.
    """
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    source = first.source
    first.source = "\n".join([source, *(f"{name} = {value!r}" for name, value in constants.items())])
    with TemporaryDirectory() as folder:
        # Sockets in a private folder: over TCP any user of the machine could connect to the kernel.
        kernel = {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}
        NotebookClient(
            notebook,
            timeout=_TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            coalesce_streams=True,
            config=Config({"KernelManager": kernel}),
        ).execute()
    first.source = source
    return notebook


def clean(notebook: NotebookNode) -> NotebookNode:
    """Remove what differs between machines: warnings on stderr and the version of the kernel."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main(paths: list[Path]) -> None:
    for path in paths or sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        nbformat.write(clean(execute(path)), path)
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {path.stat().st_size / 1024:,.0f} KiB")


if __name__ == "__main__":
    main([Path(argument).resolve() for argument in sys.argv[1:]])
