"""The package's own command line: `python -m deepfm doctor`, which must run where the jobs cannot.

So it imports none of them, and keeps their contract itself: logs on stderr, one line of JSON as the last line
of stdout, exit status 2 where something is wrong that the user can mend.
"""

import json
import os
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path

try:
    import click
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from deepfm.doctor.checks import Environment, run_checks
    from deepfm.doctor.finding import Finding
except ModuleNotFoundError as missing:
    todo = "run `. .venv/bin/activate` in the project's folder, after `make env` where there is no .venv yet"
    print(f"error: {sys.executable} has no {missing.name}: {todo}", file=sys.stderr)
    sys.exit(2)

_LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"


@click.group(help="Click-through-rate models on Spark, Horovod and MLflow; the jobs themselves are in jobs/.")
def main() -> None:
    pass


@main.command()
@click.option("--profile", "profile_path", default="conf/profile/local.yaml", show_default=True)
@click.option("--tracking-uri", help="MLflow server or store, in place of the profile's.")
@click.option("--num-workers", type=click.IntRange(min=0), default=2, show_default=True)
def doctor(profile_path: str, tracking_uri: str | None, num_workers: int) -> None:
    """Look at everything that the jobs need and say what to run where something is missing.

    Exit status 0: nothing is red. 2: something is.
    """
    warnings.simplefilter("ignore")
    started = time.monotonic()
    around = Environment(
        environment=os.environ,
        python=sys.executable,
        python_version=sys.version_info[:2],
        lock=_LOCK,
        profile_path=profile_path,
        tracking_uri=tracking_uri,
        num_workers=num_workers,
    )
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
    with console.status("looking …"):
        findings = list(run_checks(around))
    _show(findings, console)
    levels = Counter(finding.level for finding in findings)
    summary = {level: levels[level] for level in ("green", "yellow", "red")}
    summary |= {"findings": [asdict(finding) for finding in findings]}
    click.echo(json.dumps({"job": "doctor", **summary, "seconds": round(time.monotonic() - started, 1)}))
    sys.exit(2 if levels["red"] else 0)


def _show(findings: list[Finding], console: Console) -> None:
    """All of it as a table, then what to run, in lines that can be copied whole."""
    table = Table("state", "what", "found", box=None, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(
            f"[{finding.level}]{finding.level}[/]", finding.what, Text(finding.found, overflow="fold")
        )
    console.print(table)
    for finding in findings:
        if finding.remedy:
            console.print(f"[{finding.level}]{finding.what}[/]:", Text(finding.remedy), soft_wrap=True)


def run() -> None:
    """As a job tells a mistake in its flags: in one line."""
    try:
        main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"error: {' '.join(error.format_message().split())}; see --help", err=True)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
