"""build_features on a log with millions of distinct values: ids fitted on the driver and by Spark.

    python benchmarks/vocabulary.py [--rows 2000000] [--values 10000000]

The log has 40 categories with uniformly distributed values, all of them known, so that the vocabulary is as
large as possible. Each method runs in a separate process and Spark session; both must give the same dataset.
Reports seconds after Spark has started, and the peak memory of the driver's Python, of a Python worker and of
Java. Stdout ends with a line of JSON.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv
from memory import in_gib, peak_memory
from pipeline import REPOSITORY
from rich.console import Console
from rich.table import Table

WORK = REPOSITORY / "work" / "benchmarks" / "vocabulary"
NUM_FIELDS = 40
FIELDS = [f"C{number}" for number in range(1, NUM_FIELDS + 1)]
_ROWS_PER_CHUNK = 250_000
sys.path.insert(0, str(REPOSITORY / "jobs"))


def make_log(num_rows: int, num_values: int) -> Path:
    """Generate a log of text without days; it is generated once."""
    log = WORK / f"log_{num_rows}_{num_values}"
    if log.exists():
        return log
    unfinished = log.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    rng = np.random.default_rng(1)
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    for start in range(0, num_rows, _ROWS_PER_CHUNK):
        shape = (NUM_FIELDS, min(_ROWS_PER_CHUNK, num_rows - start))
        values = rng.integers(0, num_values // NUM_FIELDS, shape).astype(np.uint64)
        # As in Criteo's log: hexadecimal, and without common prefixes.
        mixed = (values * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(24)
        texts = [pa.array(np.char.mod("%010x", field_values)) for field_values in mixed]
        labels = pa.array(rng.integers(0, 2, shape[1]))
        table = pa.table([labels, *texts], names=["label", *FIELDS])
        pyarrow.csv.write_csv(table, unfinished / f"part-{start:012}.tsv", options)
    unfinished.rename(log)
    return log


def measure(method: str, log: Path) -> dict:
    """Measure seconds and memory of one method in a separate process; also return the dataset's digest."""
    click.secho(f"$ by {method}", fg="cyan", err=True)
    command = [sys.executable, __file__, "--method", method, "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with peak_memory(process.pid) as peak:
        stdout, _ = process.communicate()
    if process.returncode:
        sys.exit(f"by {method}: failed with status {process.returncode}")
    memory = {"driver": peak.first, "worker": peak.worker, "java": peak.java}
    return json.loads(stdout.splitlines()[-1]) | {f"{k}_gib": in_gib(v) for k, v in memory.items()}


def build(method: str, log: Path) -> None:
    """Start Spark, then time the build; runs in a separate process."""
    from deepfm.cli.job import load_profile
    from deepfm.cli.spark.session import spark_session
    from deepfm.click_log.choose_split import choose_split
    from deepfm.click_log.click_log import find_click_log
    from deepfm.dataset.build import build_dataset
    from deepfm.features.vocabulary import fit
    from deepfm.settings.data import DataSettings
    from deepfm.settings.loader import parse_settings

    fit.MAX_COUNTS_ON_DRIVER = {"the driver": 2**62, "Spark": 0}[method]
    document = {
        "format": "delimited",
        "delimiter": "\t",
        "columns": ["label", *FIELDS],
        "fields": [{"kind": "category", "names": FIELDS}],
    }
    settings = parse_settings(document, DataSettings, "benchmark")
    output = WORK / "dataset"
    shutil.rmtree(output, ignore_errors=True)
    with spark_session(load_profile(str(REPOSITORY / "conf/profile/local.yaml")), "benchmark") as spark:
        click_log = find_click_log(f"file://{log}", settings)
        split = choose_split(spark, click_log, settings, (None, None, None))
        started = time.monotonic()
        manifest = build_dataset(spark, click_log, settings, split, f"file://{output}")
        seconds = time.monotonic() - started
    result = {"digest": manifest.digest, "num_ids": sum(manifest.num_ids), "seconds": round(seconds, 1)}
    click.echo(json.dumps(result))


@click.command(help=__doc__.replace("Spark.\n\n", "Spark.\n\n\b\n"))
@click.option("--rows", type=int, default=2_000_000, show_default=True)
@click.option("--values", type=int, default=10_000_000, show_default=True)
@click.option("--method", hidden=True)
@click.option("--log", type=click.Path(path_type=Path), hidden=True)
def main(rows: int, values: int, method: str | None, log: Path | None) -> None:
    if method:
        assert log is not None
        build(method, log)
        return
    log = make_log(rows, values)
    results = {name: measure(name, log) for name in ("the driver", "Spark")}
    table = Table(f"{rows:,} rows", "ids", "seconds", "driver GiB", "worker GiB", "Java GiB")
    for name, result in results.items():
        memory = [str(result[f"{kind}_gib"]) for kind in ("driver", "worker", "java")]
        table.add_row(f"by {name}", f"{result['num_ids']:,}", str(result["seconds"]), *memory)
    Console(stderr=True).print(table)
    if len({result["digest"] for result in results.values()}) > 1:
        sys.exit("the two methods gave different datasets")
    click.echo(json.dumps(results))


if __name__ == "__main__":
    main()
