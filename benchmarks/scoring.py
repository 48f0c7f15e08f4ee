"""A night's scoring beside MLflow's own: rows/s of DeepFM's network, and from raw text to a published day.

    python benchmarks/scoring.py [--rows 1000000] [--times 5] [--cluster-workers 2]

One model (K = 16, 400-400-400, weights as they are initialised: time does not depend on them), one Spark
session of two cores. `mlflow.pyfunc.spark_udf` gets a TorchScript copy of the network and encoded ids;
ours scores the same ids, out of Spark's rows as the udf does and out of files that its tasks read themselves,
as they read a log; and then it does the whole night from raw text: parse, set aside, encode, score, check,
publish. Those on ids write nowhere. They run in turn, three rounds, and the last one counts: Java and workers
are warm, as in a backfill. With --times N a night of N times the rows is scored too (the day's file N times),
and the peak memory of all processes told beside the day's; with --cluster-workers N that night on standalone
clusters of one and of N workers as well, each kept to a core of its own; the driver runs where it finds room.
Stdout ends with a line of JSON.
"""

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import click
import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from clusters import one_core_workers
from memory import Peak, in_gib, peak_memory
from pipeline import REPOSITORY, run_job
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from deepfm import storage
from deepfm.artifact.artifact import load_artifact, save_artifact
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import read_manifest_and_vocabulary
from deepfm.model_factory import build_model
from deepfm.scoring.predict import shipped_model
from deepfm.scoring.score_day import ScoringDay, ScoringModel, fetch_model, score_day
from deepfm.settings.deployment import DriftLimits, Profile
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings
from deepfm.spark.index_frame import index_frame
from deepfm.tracking.store import MlflowStore

WORK = REPOSITORY / "work" / "benchmarks" / "scoring"
NIGHT = "2026-01-02"
_ROUNDS = 3
sys.path.insert(0, str(REPOSITORY / "jobs"))


def build(rows: int) -> Path:
    """Two days of a synthetic log, and a dataset whose training part is the second: the night's rows."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    log, dataset = WORK / "log", WORK / "dataset"
    run_job("-m", "deepfm.cli.synthetic", "--days", 3, "--rows-per-day", rows, "--output", log)
    days = {"train": NIGHT, "valid": "2026-01-01", "test": "2026-01-03"}
    flags = [word for part, day in days.items() for word in (f"--{part}-days", day)]
    paths = ("--data", "conf/data/criteo.yaml", "--input", log, "--output", dataset)
    run_job("jobs/build_features.py", *paths, *flags)
    return dataset


def the_store() -> MlflowStore:
    return MlflowStore(f"sqlite:///{WORK}/mlflow.db", str(WORK / "artifacts"))


def register(dataset: Path, store: MlflowStore) -> None:
    """A version of the model `ctr`, and a TorchScript copy of its network as `scripted`."""
    manifest, vocabulary = read_manifest_and_vocabulary(f"file://{dataset}")
    settings = load_settings(REPOSITORY / "conf/model/deepfm.yaml", ModelSettings)
    torch.manual_seed(1)
    network = build_model(settings, manifest.num_ids).eval()
    folder = WORK / "model"
    folder.mkdir()
    save_artifact(f"file://{folder}", settings, manifest, vocabulary, network.state_dict())
    ids = torch.zeros(2, len(manifest.fields), dtype=torch.int64)
    with store.run("scoring") as run:
        run.register(str(folder), "ctr", vocabulary, {})
        with torch.inference_mode():
            scripted = torch.jit.freeze(torch.jit.trace(_Probability(network), ids).eval())
        mlflow.pytorch.log_model(
            scripted, name="scripted", registered_model_name="scripted", serialization_format="pickle"
        )


class _Probability(torch.nn.Module):
    """DeepFM's formula in operations that TorchScript has."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        network = self.network
        rows = ids.long() + network.embedding.offsets
        v = network.embedding.table(rows)
        first_order = network.linear.bias + network.linear.weights.table(rows).sum((1, 2))
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return torch.sigmoid(first_order + pairs + network.deep(v.flatten(1)))


def by_spark_udf(spark: SparkSession, ids: DataFrame) -> DataFrame:
    """The columns of ids as one array, as MLflow hands a tensor to a PyTorch model."""
    score = mlflow.pyfunc.spark_udf(spark, "models:/scripted/1", result_type="float", env_manager="local")
    return ids.select(score(F.struct(*ids.columns)).alias("probability"))


def by_ours(ids: DataFrame, model: ScoringModel, *, bf16: bool) -> DataFrame:
    """The network of the scoring job on the same columns."""
    shipped, columns = model.shipped, ids.columns

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _probabilities(shipped, pa.Table.from_batches([batch]), columns, bf16)

    return ids.mapInArrow(score, "probability float")


def by_our_tasks(ids: DataFrame, model: ScoringModel, *, bf16: bool) -> DataFrame:
    """The same, of files that the tasks read themselves."""
    files, shipped, columns = ids.inputFiles(), model.shipped, ids.columns

    def score(places: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for place in (place for batch in places for place in batch.column(0).to_pylist()):
            table = pq.read_table(io.BytesIO(storage.read_bytes(files[place])), columns=columns)
            yield _probabilities(shipped, table, columns, bf16)

    return index_frame(ids.sparkSession, len(files)).mapInArrow(score, "probability float")


def _probabilities(shipped: str, rows: pa.Table, columns: list[str], bf16: bool) -> pa.RecordBatch:
    block = to_int32_matrix([rows.column(name).to_numpy() for name in columns])
    logits = torch.from_numpy(shipped_model(shipped).logits_from_ids(block, bf16=bf16))
    return pa.RecordBatch.from_arrays([pa.array(torch.sigmoid(logits).numpy())], names=["probability"])


def longer_night(times: int) -> Path:
    """A log whose night has the day's file so many times."""
    log = WORK / f"log_{times}"
    shutil.rmtree(log, ignore_errors=True)
    (log / f"ds={NIGHT}").mkdir(parents=True)
    for file in (WORK / "log" / f"ds={NIGHT}").iterdir():
        for number in range(times):
            (log / f"ds={NIGHT}" / f"{number}.{file.name}").symlink_to(file)
    return log


def night_apart(log: Path, master: str) -> tuple[float, Peak]:
    """Seconds of the second night in a driver of its own, and its memory in both."""
    # A Java that has run a session on one master takes the next session there too.
    command = [sys.executable, __file__, "--night", str(log), "--master", master]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with peak_memory(process.pid) as peak:
        stdout, _ = process.communicate()
    if process.returncode:
        sys.exit(f"a night on {master} ended with status {process.returncode}")
    return float(stdout.splitlines()[-1]), peak


def seconds_of_night(log: Path, master: str, profile: Profile) -> float:
    """Of the second one, in its driver."""
    from deepfm.cli.spark.session import spark_session

    store = the_store()
    settings = {"spark.master": master, "spark.executor.memory": "2g"}
    with spark_session(profile.model_copy(update={"spark": profile.spark | settings}), "night") as spark:
        model = fetch_model(spark, store, store.resolve("models:/ctr/1"))
        night = ScoringDay(NIGHT, f"file://{log}", f"file://{WORK}/scores")
        work = partial(score_day, spark, model, night, DriftLimits(), precision="bf16")
        return [seconds_of(work) for _ in range(2)][1]


def seconds_of(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


@click.command(help=__doc__.replace("published day.\n\n", "published day.\n\n\b\n"))
@click.option("--rows", type=int, default=1_000_000, show_default=True)
@click.option("--times", type=click.IntRange(min=2), help="Also a night of so many times the rows.")
@click.option("--cluster-workers", type=click.IntRange(min=2), help="And on clusters of 1 and so many.")
@click.option("--night", type=click.Path(path_type=Path), hidden=True)
@click.option("--master", hidden=True)
def main(
    rows: int, times: int | None, cluster_workers: int | None, night: Path | None, master: str | None
) -> None:
    from deepfm.cli.job import load_profile
    from deepfm.cli.spark.session import spark_session

    profile = load_profile(str(REPOSITORY / "conf/profile/local.yaml"))
    if night:
        print(seconds_of_night(night, master, profile))
        return
    dataset = build(rows)
    store = the_store()
    register(dataset, store)
    load_s = min(seconds_of(lambda: load_artifact(f"file://{WORK}/model")) for _ in range(2))
    day = ScoringDay(NIGHT, f"file://{WORK}/log", f"file://{WORK}/scores")
    with spark_session(profile, "benchmark") as spark:
        model = fetch_model(spark, store, store.resolve("models:/ctr/1"))
        read = spark.read.parquet(f"file://{dataset}/train")
        ids = read.select(*[name for name in read.columns if name != "label"])
        contestants = {
            "spark_udf, TorchScript, on ids": lambda: _drain(by_spark_udf(spark, ids)),
            "ours, on ids": lambda: _drain(by_ours(ids, model, bf16=False)),
            "ours, on ids, bf16": lambda: _drain(by_ours(ids, model, bf16=True)),
            "ours, on ids its tasks read": lambda: _drain(by_our_tasks(ids, model, bf16=False)),
            "ours, on ids its tasks read, bf16": lambda: _drain(by_our_tasks(ids, model, bf16=True)),
            "ours, raw text to published day": lambda: score_day(spark, model, day, DriftLimits()),
            "ours, raw text to published day, bf16": lambda: score_day(
                spark, model, day, DriftLimits(), precision="bf16"
            ),
        }
        for _ in range(_ROUNDS):
            found = {name: rows / seconds_of(work) for name, work in contestants.items()}
    peaks = {}
    for many in (1, times) if times else ():
        seconds, peak = night_apart(longer_night(many), profile.spark["spark.master"])
        found[f"a night of {many * rows:,}, bf16"] = many * rows / seconds
        parts = {"all": peak.num_bytes, "driver": peak.first, "worker": peak.worker, "java": peak.java}
        peaks[f"{many * rows:,} rows"] = {name: in_gib(num_bytes) for name, num_bytes in parts.items()}
    for workers in (1, cluster_workers) if cluster_workers else ():
        with one_core_workers(workers) as url:
            seconds, _ = night_apart(longer_night(times or 1), url)
        found[f"the same on a cluster of {workers}"] = (times or 1) * rows / seconds
    show(found, peaks, load_s)


def _drain(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def show(found: dict[str, float], peaks: dict[str, dict[str, float]], load_s: float) -> None:
    """One table, and one line of JSON with what a night took of memory and the loading of the model."""
    base = next(iter(found.values()))
    table = Table("Scoring", "rows/s", "times")
    for name, rows_per_s in found.items():
        table.add_row(name, f"{rows_per_s:,.0f}", f"{rows_per_s / base:.2f}")
    Console(stderr=True).print(table)
    rows_per_s = {name: round(float(np.round(value))) for name, value in found.items()}
    print(json.dumps({"rows_per_s": rows_per_s, "peak_gib": peaks, "load_s": round(load_s, 2)}))


if __name__ == "__main__":
    main()
