"""Write a project folder for the installed package: `deepfm init DIR`."""

from pathlib import Path

import click

from deepfm import storage
from deepfm.errors import UserError


@click.command(epilog="Example: deepfm init ctr --log work/log")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--log", help="Click log to describe by conf/data/mine.yaml; default: an example of all keys.")
@click.option("--label", help="Column of the clicks in --log; default: the likeliest one.")
def init(folder: Path, log: str | None, label: str | None) -> None:
    """Write conf/, schedule files, entry points for spark-submit and a README with the commands to DIR.

    DIR must be new or empty.
    """
    from deepfm.cli.operations.project import project_files  # imports Spark, which --help does not need

    if label and not log:
        raise UserError("--label: expected --log with it, found none; give the log, or remove --label")
    _require_empty(folder)
    files = project_files(folder.absolute(), log and storage.absolute_url(log), label)
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the project: {error.strerror}; choose another DIR"
        ) from error
    click.echo(f"{len(files)} files are written to {folder}; begin with {folder}/README.md", err=True)


def _require_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"{folder}: expected a new or empty folder, found files; choose another DIR")
