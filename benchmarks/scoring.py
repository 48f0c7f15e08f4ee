"""Speed of daily scoring compared with MLflow's spark_udf, from encoded ids and from raw text.

    python benchmarks/scoring.py [--rows 1000000] [--times 5] [--cluster-workers 2]

One model (K = 16, 400-400-400, initial weights, which do not change the time) and one Spark session with two
cores. `mlflow.pyfunc.spark_udf` gets a TorchScript copy of the network and encoded ids. Ours scores the same
ids, from Spark rows as the udf does and from files that its tasks read, as they read a log; and it scores a
whole day from raw text: parse, reject, encode, score, check, publish. Runs on ids write no output. All run in
turn for three rounds, and the last round counts: Java and workers are warm, as in a backfill. --times N also
scores a day with N times the rows (the day's file N times) and reports the peak memory of both; with
--cluster-workers N it runs on standalone clusters of one and of N workers too, each worker pinned to one core
and the driver not pinned. Stdout ends with a line of JSON.
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
from typing import Any

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
DAY = "2026-01-02"
_ROUNDS = 3
sys.path.insert(0, str(REPOSITORY / "jobs"))


def build(rows: int) -> Path:
    """Generate a synthetic log, and a dataset whose training split is the day to score."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    log, dataset = WORK / "log", WORK / "dataset"
    run_job("-m", "deepfm.cli.synthetic", "--days", 3, "--rows-per-day", rows, "--output", log)
    days = {"train": DAY, "valid": "2026-01-01", "test": "2026-01-03"}
    flags = [word for part, day in days.items() for word in (f"--{part}-days", day)]
    paths = ("--data", "conf/data/criteo.yaml", "--input", log, "--output", dataset)
    run_job("jobs/build_features.py", *paths, *flags)
    return dataset


def open_store() -> MlflowStore:
    return MlflowStore(f"sqlite:///{WORK}/mlflow.db", str(WORK / "artifacts"))


def register(dataset: Path, store: MlflowStore) -> None:
    """Register the model as `ctr`, and a TorchScript copy of its network as `scripted`."""
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
    """DeepFM in operations that TorchScript supports."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        network: Any = self.network
        rows = ids.long() + network.embedding.offsets
        v = network.embedding.table(rows)
        first_order = network.linear.bias + network.linear.weights.table(rows).sum((1, 2))
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return torch.sigmoid(first_order + pairs + network.deep(v.flatten(1)))


def score_by_udf(spark: SparkSession, ids: DataFrame) -> DataFrame:
    """The columns of ids as one array, as MLflow hands a tensor to a PyTorch model."""
    score = mlflow.pyfunc.spark_udf(spark, "models:/scripted/1", result_type="float", env_manager="local")
    return ids.select(score(F.struct(*ids.columns)).alias("probability"))


def score_rows(ids: DataFrame, model: ScoringModel, *, bf16: bool) -> DataFrame:
    """Score the same columns with the network of the scoring job."""
    shipped, columns = model.shipped, ids.columns

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _probabilities(shipped, pa.Table.from_batches([batch]), columns, bf16)

    return ids.mapInArrow(score, "probability float")


def score_files(ids: DataFrame, model: ScoringModel, *, bf16: bool) -> DataFrame:
    """Score files that the tasks read themselves."""
    files, shipped, columns = ids.inputFiles(), model.shipped, ids.columns

    def score(index_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for index in (index for batch in index_batches for index in batch.column(0).to_pylist()):
            table = pq.read_table(io.BytesIO(storage.read_bytes(files[index])), columns=columns)
            yield _probabilities(shipped, table, columns, bf16)

    return index_frame(ids.sparkSession, len(files)).mapInArrow(score, "probability float")


def _probabilities(shipped: str, rows: pa.Table, columns: list[str], bf16: bool) -> pa.RecordBatch:
    ids = to_int32_matrix([rows.column(name).to_numpy() for name in columns])
    logits = torch.from_numpy(shipped_model(shipped).logits_from_ids(ids, bf16=bf16))
    return pa.RecordBatch.from_arrays([pa.array(torch.sigmoid(logits).numpy())], names=["probability"])


def repeat_day(times: int) -> Path:
    """Make a log whose day has each file `times` times."""
    log = WORK / f"log_{times}"
    shutil.rmtree(log, ignore_errors=True)
    (log / f"ds={DAY}").mkdir(parents=True)
    for file in (WORK / "log" / f"ds={DAY}").iterdir():
        for number in range(times):
            (log / f"ds={DAY}" / f"{number}.{file.name}").symlink_to(file)
    return log


def score_in_process(log: Path, master: str) -> tuple[float, Peak]:
    """Score the day twice in a new driver process; (seconds of the second time, peak memory)."""
    # A new process, because a Java process cannot change its master.
    command = [sys.executable, __file__, "--score-log", str(log), "--master", master]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with peak_memory(process.pid) as peak:
        stdout, _ = process.communicate()
    if process.returncode:
        sys.exit(f"scoring on {master} failed with status {process.returncode}")
    return float(stdout.splitlines()[-1]), peak


def time_second_run(log: Path, master: str, profile: Profile) -> float:
    """Score the day twice and return the seconds of the second time."""
    from deepfm.cli.spark.session import spark_session

    store = open_store()
    settings = {"spark.master": master, "spark.executor.memory": "2g"}
    with spark_session(profile.model_copy(update={"spark": profile.spark | settings}), "scoring") as spark:
        model = fetch_model(spark, store, store.resolve("models:/ctr/1"))
        day = ScoringDay(DAY, f"file://{log}", f"file://{WORK}/scores")
        work = partial(score_day, spark, model, day, DriftLimits(), precision="bf16")
        return [time_call(work) for _ in range(2)][1]


def time_call(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


@click.command(help=__doc__.replace("raw text.\n\n", "raw text.\n\n\b\n"))
@click.option("--rows", type=int, default=1_000_000, show_default=True)
@click.option("--times", type=click.IntRange(min=2), help="Also score a day with N times the rows.")
@click.option("--cluster-workers", type=click.IntRange(min=2), help="Also on clusters of 1 and N workers.")
@click.option("--score-log", type=click.Path(path_type=Path), hidden=True)
@click.option("--master", hidden=True)
def main(
    rows: int, times: int | None, cluster_workers: int | None, score_log: Path | None, master: str | None
) -> None:
    from deepfm.cli.job import load_profile
    from deepfm.cli.spark.session import spark_session

    profile = load_profile(str(REPOSITORY / "conf/profile/local.yaml"))
    if score_log:
        assert master is not None
        print(time_second_run(score_log, master, profile))
        return
    dataset = build(rows)
    store = open_store()
    register(dataset, store)
    load_s = min(time_call(lambda: load_artifact(f"file://{WORK}/model")) for _ in range(2))
    day = ScoringDay(DAY, f"file://{WORK}/log", f"file://{WORK}/scores")
    with spark_session(profile, "benchmark") as spark:
        model = fetch_model(spark, store, store.resolve("models:/ctr/1"))
        read = spark.read.parquet(f"file://{dataset}/train")
        ids = read.select(*[name for name in read.columns if name != "label"])
        runs = {
            "spark_udf, TorchScript, on ids": lambda: _drain(score_by_udf(spark, ids)),
            "ours, on ids": lambda: _drain(score_rows(ids, model, bf16=False)),
            "ours, on ids, bf16": lambda: _drain(score_rows(ids, model, bf16=True)),
            "ours, on ids that tasks read": lambda: _drain(score_files(ids, model, bf16=False)),
            "ours, on ids that tasks read, bf16": lambda: _drain(score_files(ids, model, bf16=True)),
            "ours, raw text to published day": lambda: score_day(spark, model, day, DriftLimits()),
            "ours, raw text to published day, bf16": lambda: score_day(
                spark, model, day, DriftLimits(), precision="bf16"
            ),
        }
        for _ in range(_ROUNDS):
            speeds = {name: rows / time_call(work) for name, work in runs.items()}
    peaks = {}
    for factor in (1, times) if times else ():
        seconds, peak = score_in_process(repeat_day(factor), str(profile.spark["spark.master"]))
        speeds[f"a day of {factor * rows:,}, bf16"] = factor * rows / seconds
        parts = {"all": peak.num_bytes, "driver": peak.first, "worker": peak.worker, "java": peak.java}
        peaks[f"{factor * rows:,} rows"] = {name: in_gib(num_bytes) for name, num_bytes in parts.items()}
    for workers in (1, cluster_workers) if cluster_workers else ():
        with one_core_workers(workers) as url:
            seconds, _ = score_in_process(repeat_day(times or 1), url)
        speeds[f"the same on a cluster of {workers}"] = (times or 1) * rows / seconds
    show(speeds, peaks, load_s)


def _drain(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def show(speeds: dict[str, float], peaks: dict[str, dict[str, float]], load_s: float) -> None:
    """Print a table, and a line of JSON with the peak memory and the time to load the model."""
    base = next(iter(speeds.values()))
    table = Table("Scoring", "rows/s", "times")
    for name, rows_per_s in speeds.items():
        table.add_row(name, f"{rows_per_s:,.0f}", f"{rows_per_s / base:.2f}")
    Console(stderr=True).print(table)
    rounded = {name: round(float(np.round(value))) for name, value in speeds.items()}
    print(json.dumps({"rows_per_s": rounded, "peak_gib": peaks, "load_s": round(load_s, 2)}))


if __name__ == "__main__":
    main()
