"""Jobs run by their command line."""

import json
import subprocess
import sys
from pathlib import Path

import click

from deepfm.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent


def run_job(*arguments: object) -> dict:
    """Run a job and return its summary; raise UserError if it fails."""
    command = [sys.executable, *map(str, arguments)]
    click.secho(f"$ python {' '.join(command[1:])}", fg="cyan", err=True)
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    if process.returncode:
        raise UserError(f"{' '.join(command[1:3])} failed with status {process.returncode}; see above")
    return json.loads(process.stdout.splitlines()[-1])
