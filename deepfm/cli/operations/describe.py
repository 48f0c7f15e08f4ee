"""Write a data YAML for an unknown log: `deepfm describe LOG`."""

from pathlib import Path

import click

from deepfm import storage
from deepfm.errors import UserError


@click.command(epilog="Example: deepfm describe work/log --output conf/data/mine.yaml")
@click.argument("log")
@click.option("--label", help="Column of the clicks; default: the likeliest one.")
@click.option("--output", type=click.Path(path_type=Path), help="New file; default: print to stdout.")
def describe(log: str, label: str | None, output: Path | None) -> None:
    """Look at the first rows of a CSV, TSV, Parquet or ORC log and write a data YAML to review.

    Each line of the YAML has the reason of its choice. Nothing else is written.
    """
    from deepfm.click_log.describe.yaml_text import describe_log  # imports Spark, which --help does not need

    if output and output.exists():
        raise UserError(f"{output}: expected a new file, found an existing one; choose another --output")
    text = describe_log(storage.absolute_url(log), label).yaml
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{output}: cannot write the file: {error.strerror}; choose another --output"
        ) from error
    click.echo(f"{output} is written; review it", err=True)
