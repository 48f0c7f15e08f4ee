"""DeepFM of other libraries, run by driver scripts in separate Python environments."""

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
    """Driver script of another library, and the packages that its docstring requires."""

    name: str
    driver: str
    requirements: tuple[str, ...]


FUXICTR = Peer(
    "fuxictr", "fuxictr_deepfm.py", ("torch==2.13.0", "fuxictr==2.3.10", "polars<1.30", "ray[data]")
)
DEEPCTR = Peer("deepctr", "deepctr_torch_deepfm.py", ("torch==2.13.0", "deepctr-torch==0.3.0", "requests"))


def find_driver(peers: Path, peer: Peer = FUXICTR) -> Path:
    """Return the driver in the folder `peers`; raise UserError if it does not exist."""
    if not (peers / peer.driver).is_file():
        raise UserError(f"expected the driver {peer.driver} in --peers {peers}, found none; give its folder")
    return (peers / peer.driver).resolve()


def make_environment(peer: Peer = FUXICTR) -> Path:
    """Return the Python of the environment, which is created once by pip in the user's cache."""
    folder, log = CACHE / peer.name, CACHE / f"{peer.name}.log"
    python, marker = folder / "bin" / "python", folder / "requirements.txt"
    requirements = "\n".join((sys.version, *peer.requirements))
    if marker.is_file() and marker.read_text() == requirements:
        return python
    click.echo(f"creating {folder}, once, in some minutes; see {log} for progress", err=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    venv = [sys.executable, "-m", "venv", "--clear", str(folder)]
    with log.open("w") as out:
        for command in (venv, [str(python), "-m", "pip", "install", *peer.requirements]):
            if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode:
                raise UserError(f"cannot create the environment in {folder} ({command[2]} failed); see {log}")
    marker.write_text(requirements)
    return python


def run_driver(python: Path, driver: Path, arguments: list[str], log: Path) -> dict:
    """Run a driver and return its line of JSON; stderr goes to `log`."""
    with log.open("w") as out:
        process = subprocess.run([python, driver, *arguments], stdout=subprocess.PIPE, stderr=out, text=True)
    if process.returncode:
        raise UserError(f"{driver.name} failed with status {process.returncode}; see {log}")
    # Other output of the library may follow it.
    return json.loads([line for line in process.stdout.splitlines() if line.startswith("{")][-1])


def write_part(log: Path, data: DataSettings, days: str, part: Path) -> str:
    """Write the rows of days A:B, by ds= folders or the day column, into one file; return its path."""
    first, last = days.split(":")
    # Days are YYYY-MM-DD, so their order as texts is the order of time.
    with part.open("wb") as out:
        if log.is_dir():
            for file in sorted(log.glob("ds=*/*")):
                if first <= file.parent.name.removeprefix("ds=") <= last:
                    out.write(file.read_bytes())
            return str(part)
        with log.open("rb") as rows:
            header = next(rows)
            out.write(header)
            assert data.day_column is not None
            index = header.decode().rstrip("\r\n").split(data.delimiter).index(data.day_column)
            out.writelines(row for row in rows if first <= row.decode().split(data.delimiter)[index] <= last)
    return str(part)
