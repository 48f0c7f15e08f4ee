"""Run and measure everything that the package does on a GPU; needs neither Spark nor a network.

    python benchmarks/gpu_check.py [--device cuda] [--small] [--only steps,parts] [--output gpu_check.json]

Measures: training compared with the CPU's, speed of a step alone and from files, its parts relative to the
speed of a memory copy and of a matrix product, Horovod's operations with NCCL, evaluation, scoring, large
tables, and the error for too little memory. A part that fails is reported with its error, and the others go
on. Stdout ends with JSON. gpu_check.sh runs this with packages carried along.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import click
import torch
from gpu_files import measure_files
from gpu_parts import time_parts
from gpu_timing import ceilings
from gpu_training import (
    SMALL,
    Sizes,
    compare_losses,
    profile_steps,
    run_out_of_memory,
    time_evaluation,
    time_steps,
    train_huge_tables,
)

from deepfm.training.device import retain_freed_memory


def run_horovod(device: torch.device, is_small: bool) -> dict:
    """Measure Horovod in its own process, which an error in NCCL may end."""
    command = [sys.executable, str(Path(__file__).parent / "gpu_horovod.py"), str(device)]
    command += ["--small"] if is_small else []
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if process.returncode:
        raise RuntimeError(f"status {process.returncode}: {process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def sections(device: torch.device, sizes: Sizes, is_small: bool) -> dict[str, Callable[[dict], object]]:
    """Return the measurements, the most important first; each gets the results so far."""
    num_cores = len(os.sched_getaffinity(0))
    return {
        "ceilings": lambda done: ceilings(device),
        "losses": lambda done: compare_losses(sizes, device),
        "steps": lambda done: time_steps(sizes, device),
        "parts": lambda done: time_parts(sizes, device, done["ceilings"]),
        "files": lambda done: measure_files(sizes, device, num_cores),
        "horovod": lambda done: run_horovod(device, is_small),
        "profile": lambda done: profile_steps(sizes, device),
        "evaluation": lambda done: time_evaluation(sizes, device),
        "out_of_memory": lambda done: run_out_of_memory(sizes, device),
        "huge_tables": lambda done: train_huge_tables(sizes, device),
    }


@click.command(help=__doc__.replace("network.\n\n", "network.\n\n\b\n"))
@click.option("--device", "name", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--small", "is_small", is_flag=True, help="Small sizes, to try the program.")
@click.option("--only", default="", help="Measurements to run, separated by commas; default: all.")
@click.option("--output", type=click.Path(path_type=Path), help="File for the results so far.")
def main(name: str, is_small: bool, only: str, output: Path | None) -> None:
    if name == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device cuda: expected a GPU that torch can use, found none")
    retain_freed_memory()
    device = torch.device("cuda", 0) if name == "cuda" else torch.device("cpu")
    chosen = only.split(",") if only else None
    results: dict = {}
    num_failed = 0
    for title, measure in sections(device, SMALL if is_small else Sizes(), is_small).items():
        if chosen is not None and title not in chosen and title != "ceilings":
            continue
        started = time.perf_counter()
        try:
            results[title] = measure(results)
        except Exception:
            results[title], num_failed = {"failed": traceback.format_exc()[-3000:]}, num_failed + 1
        if device.type == "cuda":
            torch.cuda.empty_cache()
        elapsed = time.perf_counter() - started
        click.echo(f"{title} ({elapsed:.1f} s): {json.dumps(results[title], indent=1)}", err=True)
        if output:
            output.write_text(json.dumps(results, indent=1))
    click.echo(json.dumps(results))
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    main()
