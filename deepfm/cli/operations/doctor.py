"""Check of everything that the jobs need: `python -m deepfm doctor`.

It must run where the jobs cannot start, so it imports none of them and implements their contract itself: logs
on stderr, a JSON summary as the last line of stdout, and exit status 2 for an error that the user can fix.
"""

import json
import os
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepfm.cli.options.common import CONF_PATH
from deepfm.doctor.checks import Environment, run_checks
from deepfm.doctor.finding import Finding

_LOCK = Path(__file__).resolve().parents[3] / "requirements.lock"


@click.command()
@click.option(
    "--profile", "profile_path", type=CONF_PATH, default="conf/profile/local.yaml", show_default=True
)
@click.option(
    "--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow server or store; overrides the profile."
)
@click.option("--num-workers", type=click.IntRange(min=0), default=2, show_default=True)
def doctor(profile_path: str, tracking_uri: str | None, num_workers: int) -> None:
    """Check everything that the jobs need and print the command that fixes each problem.

    Exit status 0: nothing is red. 2: at least one check is red.
    """
    warnings.simplefilter("ignore")
    started = time.monotonic()
    environment = Environment(
        environment=os.environ,
        python=sys.executable,
        python_version=sys.version_info[:2],
        lock=_LOCK,
        profile_path=profile_path,
        tracking_uri=tracking_uri,
        num_workers=num_workers,
    )
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
    with console.status("checking …"):
        findings = list(run_checks(environment))
    _print_findings(findings, console)
    levels = Counter(finding.level for finding in findings)
    summary: dict[str, Any] = {level: levels[level] for level in ("green", "yellow", "red")}
    summary |= {"findings": [asdict(finding) for finding in findings]}
    click.echo(json.dumps({"job": "doctor", **summary, "seconds": round(time.monotonic() - started, 1)}))
    sys.exit(2 if levels["red"] else 0)


def _print_findings(findings: list[Finding], console: Console) -> None:
    """Print a table of all findings, then each remedy on an unwrapped line that can be copied."""
    table = Table("state", "what", "found", box=None, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(
            f"[{finding.level}]{finding.level}[/]", finding.what, Text(finding.found, overflow="fold")
        )
    console.print(table)
    for finding in findings:
        if finding.remedy:
            console.print(f"[{finding.level}]{finding.what}[/]:", Text(finding.remedy), soft_wrap=True)
