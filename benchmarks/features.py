"""Speed of build_features compared with Spark ML and FuxiCTR, on logs in Criteo's layout.

    python benchmarks/features.py --rows 1000000 [--rows 10000000] [--parquet] [--pieces]
        [--peers ../shared/peers]

Each program runs in a separate process and Spark session; time is measured after Spark has started. Ours does
all steps: parse, reject, fit ids (a minimum count of 2), encode, shuffle, write, profile. Spark ML does less:
StringIndexer on 26 columns with its fit, log(1 + x) of 13, Parquet. Reports rows/s, peak memory of all
processes, and with --pieces the rows/s of each part of ours on one core. Stdout ends with a line of JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from memory import peak_memory
from peers import find_driver, make_environment, run_driver
from pipeline import REPOSITORY
from rich.console import Console
from rich.table import Table

WORK = REPOSITORY / "work" / "benchmarks" / "features"
ROWS_PER_DAY = 1_000_000
sys.path.insert(0, str(REPOSITORY / "jobs"))


def make_log(num_rows: int) -> Path:
    """Return a synthetic log with this number of rows; it is generated once."""
    log = WORK / f"log_{num_rows}"
    if not (log / "_truth.json").exists():
        days = max(num_rows // ROWS_PER_DAY, 1)
        rows_per_day = num_rows // days
        flags = ["--days", str(days), "--rows-per-day", str(rows_per_day), "--output", str(log)]
        subprocess.run([sys.executable, "-m", "deepfm.cli.synthetic", *flags], check=True, cwd=REPOSITORY)
    return log


def flatten(log: Path) -> Path:
    """Link the same files into one folder without days, because Spark ML does not split by day."""
    folder = log.with_name(f"{log.name}_flat")
    if not folder.exists():
        folder.mkdir()
        for file in sorted(log.glob("ds=*/*")):
            (folder / f"{file.parent.name}.{file.name}").symlink_to(file)
    return folder


def to_parquet(log: Path) -> Path:
    """Write the same rows as Parquet files, one for each file of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    folder = log.with_name(f"{log.name}_parquet")
    if folder.exists():
        return folder
    names = ["label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))]
    types = {name: pa.string() if name.startswith("C") else pa.int64() for name in names}
    folder.mkdir()
    for file in sorted(log.iterdir()):
        table = csv.read_csv(
            file,
            read_options=csv.ReadOptions(column_names=names),
            parse_options=csv.ParseOptions(delimiter="\t"),
            convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True),
        )
        pq.write_table(table, folder / f"{file.name}.parquet", row_group_size=200_000)
    return folder


def session():
    from deepfm.cli.job import load_profile
    from deepfm.cli.spark.session import spark_session

    return spark_session(load_profile(str(REPOSITORY / "conf/profile/local.yaml")), "benchmark")


def ours(log: Path, output: Path) -> Callable:
    from deepfm.click_log.choose_split import choose_split
    from deepfm.click_log.click_log import find_click_log
    from deepfm.dataset.build import build_dataset
    from deepfm.settings.data import DataSettings
    from deepfm.settings.loader import load_settings

    def build(spark) -> None:
        settings = load_settings(REPOSITORY / "conf/data/criteo.yaml", DataSettings)
        if log.name.endswith("_parquet"):
            settings = settings.model_copy(update={"format": "parquet", "columns": ()})
        click_log = find_click_log(f"file://{log}", settings)
        split = choose_split(spark, click_log, settings, (None, None, None))
        build_dataset(spark, click_log, settings, split, f"file://{output}")

    return build


def spark_ml(log: Path, output: Path) -> Callable:
    from pyspark.ml.feature import StringIndexer
    from pyspark.sql import functions as F

    counts, categories = [f"I{n}" for n in range(1, 14)], [f"C{n}" for n in range(1, 27)]

    def index(spark) -> None:
        schema = ", ".join(
            ["label int", *[f"{c} long" for c in counts], *[f"{c} string" for c in categories]]
        )
        rows = spark.read.schema(schema).option("sep", "\t").csv(f"file://{log}")
        rows = rows.fillna("", categories)
        names = [f"{name}_id" for name in categories]
        indexer = StringIndexer(inputCols=categories, outputCols=names, handleInvalid="keep").fit(rows)
        logs = [F.log1p(F.coalesce(F.greatest(F.col(c), F.lit(0)), F.lit(0))).alias(c) for c in counts]
        ids = [F.col(name).cast("int").alias(name) for name in names]
        indexer.transform(rows).select("label", *logs, *ids).write.parquet(f"file://{output}")

    return index


PROGRAMS = {"ours": ours, "spark_ml": spark_ml}


def measure(program: str, log: Path, num_rows: int) -> dict:
    """Measure rows/s and peak memory of a program in a separate process."""
    output = WORK / f"output_{program}"
    subprocess.run(["rm", "-rf", str(output)], check=True)
    command = [
        sys.executable,
        __file__,
        "--program",
        program,
        "--log",
        str(log),
        "--output",
        str(output),
    ]
    click.secho(f"$ {program} on {num_rows:,} rows", fg="cyan", err=True)
    process = subprocess.Popen([*command, "--rows", str(num_rows)], stdout=subprocess.PIPE, text=True)
    with peak_memory(process.pid) as peak:
        stdout, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{program} failed with status {process.returncode}")
    return json.loads(stdout.splitlines()[-1]) | {"peak_gib": peak.gib}


def run_program(program: str, log: Path, output: Path, num_rows: int) -> None:
    """Start Spark, then time the program; runs in a separate process."""
    with session() as spark:
        work = PROGRAMS[program](log, output)
        spark.range(2).rdd.map(lambda n: n).count()  # start Java and Python workers
        started = time.monotonic()
        work(spark)
        seconds = time.monotonic() - started
    click.echo(json.dumps({"rows_per_s": round(num_rows / seconds), "seconds": round(seconds, 1)}))


def pieces(log: Path) -> dict[str, float]:
    """Measure rows/s of each part of ours on one core, on the first 200,000 rows, without Spark."""
    import io
    from itertools import islice

    import pyarrow as pa
    import pyarrow.parquet as pq

    from deepfm.click_log.parse import parse_rows
    from deepfm.click_log.row_format import RowFormat
    from deepfm.click_log.text.ranges import lines_table
    from deepfm.features.counting import ValueCounts
    from deepfm.features.encode import Encoder
    from deepfm.features.vocabulary.vocabulary import Vocabulary
    from deepfm.settings.data import DataSettings
    from deepfm.settings.loader import load_settings

    pa.set_cpu_count(1)
    settings = load_settings(REPOSITORY / "conf/data/criteo.yaml", DataSettings)
    fields = settings.field_set
    row_format = RowFormat(settings.columns, fields, settings.delimiter, label=settings.label)
    with min(log.iterdir()).open("rb") as file:
        content = b"".join(islice(file, 200_000))
    seconds = {}

    def time_part(name: str, function: Callable):
        started = time.process_time()
        result = function()
        seconds[name] = time.process_time() - started
        return result

    batch = time_part("find lines", lambda: lines_table(content, "log", None))
    parsed = time_part("parse", lambda: parse_rows(batch, row_format))
    counts = ValueCounts(fields)
    time_part("count", lambda: counts.update(parsed.raw))
    tables = [
        table.append_column("field", pa.array([index] * len(table), pa.int32()))
        for index, table in counts.drain()
    ]
    encoder = Encoder(Vocabulary.fit(fields, pa.concat_tables(tables)))
    ids = time_part("encode", lambda: encoder.encode(parsed.raw))
    table = pa.table([pa.array(column) for column in ids], names=list(fields.slots))
    time_part("write Parquet", lambda: pq.write_table(table, io.BytesIO()))
    return {name: round(len(batch) / spent) for name, spent in seconds.items()}


def fuxictr(log: Path, peers: Path, num_rows: int) -> dict:
    """Run FuxiCTR's preparation on the concatenated files; its driver measures the time."""
    train, test = WORK / "train.tsv", WORK / "test.tsv"
    with train.open("wb") as out:
        for file in sorted(log.iterdir()):
            out.write(file.read_bytes())
    with min(log.iterdir()).open("rb") as rows:
        test.write_bytes(b"".join(next(rows) for _ in range(1000)))
    click.secho(f"$ FuxiCTR on {num_rows:,} rows (its training is not counted)", fg="cyan", err=True)
    # A small network, because the driver always trains one.
    network = ["--epochs", "1", "--emb", "1", "--hidden", "8", "--batch", "65536"]
    arguments = [str(train), str(test), str(WORK / "fuxictr"), *network]
    run = run_driver(make_environment(), find_driver(peers), arguments, WORK / "fuxictr.log")
    return {"rows_per_s": run["prep_rows_s"], "seconds": round(num_rows / run["prep_rows_s"], 1)}


@click.command(help=__doc__.replace("layout.\n\n", "layout.\n\n\b\n"))
@click.option("--rows", multiple=True, type=int, default=(1_000_000,), show_default=True)
@click.option(
    "--peers",
    type=click.Path(path_type=Path),
    help="Folder of FuxiCTR's driver; without it, skipped.",
)
@click.option("--parquet", is_flag=True, help="Also ours on a Parquet log of the same rows.")
@click.option("--pieces", "with_pieces", is_flag=True, help="Also time each part of ours.")
@click.option("--no-baseline", is_flag=True, help="Only ours.")
@click.option("--program", hidden=True)
@click.option("--log", type=click.Path(path_type=Path), hidden=True)
@click.option("--output", type=click.Path(path_type=Path), hidden=True)
def main(rows, peers, parquet, with_pieces, no_baseline, program, log, output) -> None:
    if program:
        run_program(program, log, output, rows[0])
        return
    WORK.mkdir(parents=True, exist_ok=True)
    results = []
    for num_rows in rows:
        folder = flatten(make_log(num_rows))
        results_by_program = {"ours": measure("ours", folder, num_rows)}
        if parquet:
            results_by_program["ours, Parquet"] = measure("ours", to_parquet(folder), num_rows)
        if not no_baseline:
            results_by_program["Spark ML"] = measure("spark_ml", folder, num_rows)
        if peers:
            results_by_program["FuxiCTR"] = fuxictr(folder, peers, num_rows)
        table = Table(f"{num_rows:,} rows", "rows/s", "seconds", "peak GiB", "speedup of ours")
        for name, result in results_by_program.items():
            ratio = f"{results_by_program['ours']['rows_per_s'] / result['rows_per_s']:.2f} x"
            peak = str(result.get("peak_gib", ""))
            table.add_row(name, f"{result['rows_per_s']:,}", str(result["seconds"]), peak, ratio)
        Console().print(table)
        results.append({"rows": num_rows, **results_by_program})
    if with_pieces:
        parts = pieces(folder)
        table = Table("part of ours, one core", "rows/s")
        for name, speed in parts.items():
            table.add_row(name, f"{speed:,}")
        Console().print(table)
        results.append({"pieces": parts})
    click.echo(json.dumps(results))


if __name__ == "__main__":
    main()
