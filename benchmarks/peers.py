"""Peers' DeepFM, each in an environment of its own, run by its driver script."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepfm-spark" / "peers"


@dataclass(frozen=True)
class Peer:
    """A peer's driver script, and the packages that its docstring asks for."""

    name: str
    driver: str
    requirements: tuple[str, ...]


FUXICTR = Peer(
    "fuxictr", "fuxictr_deepfm.py", ("torch==2.13.0", "fuxictr==2.3.10", "polars<1.30", "ray[data]")
)
DEEPCTR = Peer("deepctr", "deepctr_torch_deepfm.py", ("torch==2.13.0", "deepctr-torch==0.3.0", "requests"))


def find_driver(peers: Path, peer: Peer = FUXICTR) -> Path:
    """The driver in the folder `peers`, or UserError."""
    if not (peers / peer.driver).is_file():
        raise UserError(
            f"expected the peer's driver {peer.driver} in --peers {peers}, found none; give its folder"
        )
    return (peers / peer.driver).resolve()


def make_environment(peer: Peer = FUXICTR) -> Path:
    """The Python of the peer's environment; made once by pip, in the user's cache."""
    folder, log = CACHE / peer.name, CACHE / f"{peer.name}.log"
    python, made_for = folder / "bin" / "python", folder / "made_for.txt"
    wanted = "\n".join((sys.version, *peer.requirements))
    if made_for.is_file() and made_for.read_text() == wanted:
        return python
    click.echo(f"making {folder}, once: some minutes; {log} grows meanwhile", err=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    venv = [sys.executable, "-m", "venv", "--clear", str(folder)]
    with log.open("w") as out:
        for command in (venv, [str(python), "-m", "pip", "install", *peer.requirements]):
            if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode:
                raise UserError(f"the peer's environment could not be made ({command[2]} failed); see {log}")
    made_for.write_text(wanted)
    return python


def run_driver(python: Path, driver: Path, arguments: list[str], log: Path) -> dict:
    """The driver's line of JSON; what it says beside it goes to `log`."""
    with log.open("w") as out:
        done = subprocess.run([python, driver, *arguments], stdout=subprocess.PIPE, stderr=out, text=True)
    if done.returncode:
        raise UserError(f"the peer's {driver.name} ended with status {done.returncode}; see {log}")
    # A library's worker may have a last word after it.
    return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])


def write_part(log: Path, data: DataSettings, days: str, part: Path) -> str:
    """The log's rows of days A:B as one file, by its ds= folders or its day column; the file's path."""
    first, last = days.split(":")
    # Days are written YYYY-MM-DD, so as texts they are in the order of time.
    with part.open("wb") as out:
        if log.is_dir():
            for file in sorted(log.glob("ds=*/*")):
                if first <= file.parent.name.removeprefix("ds=") <= last:
                    out.write(file.read_bytes())
            return str(part)
        with log.open("rb") as rows:
            header = next(rows)
            out.write(header)
            place = header.decode().rstrip("\r\n").split(data.delimiter).index(data.day_column)
            out.writelines(row for row in rows if first <= row.decode().split(data.delimiter)[place] <= last)
    return str(part)
