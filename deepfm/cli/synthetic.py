"""Write a synthetic click log: `python -m deepfm.synthetic --help`."""

import datetime
import json
import sys
from pathlib import Path

import click

from deepfm.errors import UserError
from deepfm.synthetic.click_log import write_log
from deepfm.synthetic.makes import MAKES, TruthOptions
from deepfm.synthetic.truth import Truth


@click.command(epilog="Example: python -m deepfm.synthetic --days 8 --rows-per-day 250000 --output click_log")
@click.option("--days", type=click.IntRange(min=1), default=8, show_default=True, help="Days to write.")
@click.option("--rows-per-day", type=click.IntRange(min=1), required=True, help="Impressions in each day.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Seed of model and impressions.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="New or empty folder.")
@click.option("--first-day", type=click.DateTime(["%Y-%m-%d"]), default="2026-01-01", show_default=True)
@click.option(
    "--truth",
    "make",
    type=click.Choice(list(MAKES)),
    default="deep",
    show_default=True,
    help="deep: a few strong interactions; factorized: weak ones of all pairs of fields, as in an FM.",
)
@click.option(
    "--ctr",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.25,
    show_default=True,
    help="Clicks per impression.",
)
@click.option(
    "--noise",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="Standard deviation of a term of the logit that no field shows.",
)
@click.option(
    "--num-values",
    type=click.IntRange(min=1_000),
    help="About how many values the categories have in all; default: four million.",
)
@click.option(
    "--drift",
    type=click.FloatRange(0.0, 1.0),
    default=0.0,
    show_default=True,
    help="Per day: share of replaced values of wide categories, and rotation of weights in radians.",
)
def synthetic(days: int, rows_per_day: int, seed: int, output: Path, first_day: datetime.datetime, **options):
    """Write a click log whose best possible AUC and logloss are known; stdout ends with a JSON summary."""
    truth = Truth.from_seed(seed, TruthOptions(**options))
    summary = write_log(
        truth, output, days, rows_per_day, first_day.date(), report=lambda line: click.echo(line, err=True)
    )
    click.echo(json.dumps(summary))


def run() -> None:
    """Run the command line; report an error in one line with exit status 2, like the jobs."""
    try:
        synthetic(standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:  # click itself would add two lines of usage
        click.echo(f"error: {error.format_message()}", err=True)
        sys.exit(2)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    run()
