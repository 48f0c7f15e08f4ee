"""Jobs run as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import click

from deepfm.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent


def run_job(*arguments: object) -> dict:
    """A job's summary; UserError where it fails."""
    command = [sys.executable, *map(str, arguments)]
    click.secho(f"$ python {' '.join(command[1:])}", fg="cyan", err=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    if done.returncode:
        raise UserError(f"{' '.join(command[1:3])} ended with status {done.returncode}; its words are above")
    return json.loads(done.stdout.splitlines()[-1])
