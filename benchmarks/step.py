"""Time of a training step by size of the embedding tables, and speed of data loaders.

    python benchmarks/step.py --dataset work/benchmarks/training/dataset [--ids 100000,10000000,50000000]
                              [--optimizer adagrad]

Steps are of DeepFM with 39 fields, K = 16, 400-400-400, 4096 impressions, in bfloat16 on two threads; ids
follow Zipf's law over tables of each size. Sizes run in turn; the median is reported, relative to the first
size. Loaders are ours, Petastorm's BatchedDataLoader (with threads, shuffled as ours) and, as an upper bound,
pyarrow reading the same Parquet files. Stdout ends with JSON.
"""

import gc
import json
import resource
import statistics
import time
import warnings
from dataclasses import dataclass

import click
import numpy as np
import psutil
import pyarrow.parquet as pq
import torch
from petastorm import make_batch_reader
from petastorm.pytorch import BatchedDataLoader
from rich.console import Console
from rich.table import Table

from deepfm.dataset.manifest import Manifest, read_manifest
from deepfm.dataset.read import SHUFFLE_ROWS, read_batches
from deepfm.dataset.shard import Shard
from deepfm.distributed.collectives import SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.storage import absolute_url, local_path
from deepfm.training.device import retain_freed_memory
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizers.optimizer import Optimizer

BATCH, NUM_FIELDS = 4096, 39


@dataclass(frozen=True)
class Batch:
    """Impressions with ids by Zipf's law, exponent 1, and random clicks."""

    ids: torch.Tensor
    labels: torch.Tensor
    x: torch.Tensor | None = None
    num_rows_all_ranks: int = BATCH

    @classmethod
    def draw(cls, rng: np.random.Generator, num_ids: int) -> "Batch":
        """Draw ids with probability proportional to 1 / rank."""
        ids = num_ids ** rng.random((BATCH, NUM_FIELDS)) - 1
        return cls(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(rng.random(BATCH) < 0.25).float())


class Stepper:
    """Model of one size with batches to time."""

    def __init__(self, num_ids: int, kind: str):
        field_ids, rng = num_ids // NUM_FIELDS, np.random.default_rng(1)
        with torch.device("meta"):
            model = DeepFM([field_ids] * NUM_FIELDS, 16, hidden_units=(400, 400, 400))
        # Random initialization of 50 million ids takes minutes; zeros give the same time per step.
        self.model = model.to_empty(device="cpu")
        for tensor in self.model.state_dict().values():
            tensor.zero_()
        for table in (self.model.linear.weights, self.model.embedding):
            table.offsets = torch.arange(NUM_FIELDS) * field_ids
        for weight in self.model.deep.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        self.settings = LoopConfig(1, 1, bf16=True)
        self.optimizer = Optimizer(self.model, 0.001, kind=kind)
        self.loop = TrainingLoop(self.model, self.optimizer, SingleProcess(), self.settings)
        self.batches = [Batch.draw(rng, field_ids) for _ in range(8)]

    def seconds(self) -> list[float]:
        """Time each step."""
        seconds = []
        for batch in self.batches:
            started = time.perf_counter()
            self.loop.step(batch)
            seconds.append(time.perf_counter() - started)
        return seconds


def time_tables(sizes: list[int], num_rounds: int, kind: str) -> dict[int, dict]:
    """Return by number of ids: milliseconds per step, ratio to the first size, and peak memory."""
    results = {}
    first = Stepper(sizes[0], kind)
    for size in sizes:
        stepper = first if size == sizes[0] else Stepper(size, kind)
        stepper.seconds()  # warm-up: the first steps touch new memory pages
        first.seconds()
        ratios, medians = [], []
        for _ in range(num_rounds):
            medians.append(statistics.median(stepper.seconds()))
            ratios.append(medians[-1] / statistics.median(first.seconds()))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        results[size] = {
            "ms": 1e3 * statistics.median(medians), "ratio": statistics.median(ratios), "peak_gib": peak
        }  # fmt: skip
        del stepper
        gc.collect()
    return results


def memory_over_epochs(dataset_url: str, manifest: Manifest, num_epochs: int = 6) -> list[int]:
    """Return the resident MiB of this process after reading each epoch."""
    resident = []
    for epoch in range(num_epochs):
        for _ in read_batches(dataset_url, manifest, "train", Shard(0, 1, BATCH), epoch=epoch, seed=1):
            pass
        resident.append(psutil.Process().memory_info().rss >> 20)
    return resident


def time_loaders(dataset_url: str, manifest: Manifest, num_rounds: int) -> dict[str, float]:
    """Return rows/s of each loader over the training rows, the median over rounds."""
    num_rows, folder = manifest.splits["train"].num_rows, f"{dataset_url}/train"
    files = [f"{folder}/{file.name}" for file in manifest.splits["train"].files]

    def ours() -> int:
        return sum(
            len(b.ids) for b in read_batches(dataset_url, manifest, "train", Shard(0, 1, BATCH), seed=1)
        )

    def petastorm() -> int:
        # File URLs, as ours: given the folder, it would unpickle its metadata.
        with make_batch_reader(files, num_epochs=1, reader_pool_type="thread") as reader:
            loader = BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=SHUFFLE_ROWS)
            return sum(len(batch[manifest.data.label]) for batch in loader)

    def pyarrow() -> int:
        return sum(pq.read_table(local_path(file)).num_rows for file in files)

    speeds: dict[str, list[float]] = {}
    for _ in range(num_rounds):
        for name, read in (("ours", ours), ("petastorm", petastorm), ("pyarrow", pyarrow)):
            started = time.perf_counter()
            num_read = read()
            speeds.setdefault(name, []).append(num_rows / (time.perf_counter() - started))
            if num_read != num_rows:
                click.echo(f"{name} read {num_read} of {num_rows} rows", err=True)
    return {name: statistics.median(values) for name, values in speeds.items()}


@click.command(help=__doc__.replace("data loaders.\n\n", "data loaders.\n\n\b\n"))
@click.option("--dataset", required=True, help="Local dataset written by build_features.py.")
@click.option("--ids", default="100000,10000000,50000000", show_default=True)
@click.option("--optimizer", type=click.Choice(["adam", "adagrad"]), default="adam", show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(dataset: str, ids: str, optimizer: str, rounds: int) -> None:
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(2)
    retain_freed_memory()
    url = absolute_url(dataset)
    memory = memory_over_epochs(url, read_manifest(url))
    loaders = time_loaders(url, read_manifest(url), rounds)
    tables = time_tables([int(size) for size in ids.split(",")], rounds, optimizer)
    table = Table("ids", "ms per step", "relative to the first", "peak GiB of the process")
    for size, row in tables.items():
        table.add_row(f"{size:,}", f"{row['ms']:.1f}", f"{row['ratio']:.2f}", f"{row['peak_gib']:.1f}")
    Console().print(table)
    table = Table("loader", "rows/s", "relative to pyarrow")
    for name, speed in loaders.items():
        table.add_row(name, f"{speed:,.0f}", f"{speed / loaders['pyarrow']:.2f}")
    Console().print(table)
    Console().print(f"Resident MiB after each epoch read by ours: {', '.join(map(str, memory))}")
    click.echo(json.dumps({"tables": tables, "loaders": loaders, "memory": memory}))


if __name__ == "__main__":
    main()
