"""Parts of a training: what the size of the tables does to a step, and how fast rows reach it.

    python benchmarks/step.py --dataset work/benchmarks/training/dataset [--ids 100000,10000000,50000000]
                              [--optimizer adagrad]

A step is DeepFM's: 39 fields, K = 16, 400-400-400, 4096 impressions, in bfloat16 on two threads; ids are
drawn by Zipf's law over tables of each size. Sizes take turns, and the median counts, as a multiple of the
first size's. Rows reach a step through ours, through Petastorm's BatchedDataLoader (by threads, shuffled as
ours are) and, as the bound, by reading the same Parquet files with pyarrow alone. Stdout ends with JSON.
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
from deepfm.dataset.read import SHUFFLE_ROWS, Shard, read_batches
from deepfm.distributed.collectives import SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.storage import absolute_url, local_path
from deepfm.training.device import retain_freed_memory
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizer import Optimizer

BATCH, NUM_FIELDS = 4096, 39


@dataclass(frozen=True)
class Batch:
    """Impressions with ids by Zipf's law, exponent 1, and clicks by chance."""

    ids: torch.Tensor
    labels: torch.Tensor
    x: torch.Tensor | None = None
    num_rows_all_ranks: int = BATCH

    @classmethod
    def draw(cls, random: np.random.Generator, ids_of_field: int) -> "Batch":
        """Ids of rank r as often as 1 / r."""
        ids = ids_of_field ** random.random((BATCH, NUM_FIELDS)) - 1
        return cls(
            torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(random.random(BATCH) < 0.25).float()
        )


class Stepper:
    """A model of one size, and its steps."""

    def __init__(self, num_ids: int, kind: str):
        of_field, random = num_ids // NUM_FIELDS, np.random.default_rng(1)
        with torch.device("meta"):
            model = DeepFM([of_field] * NUM_FIELDS, 16, hidden_units=(400, 400, 400))
        # Weights of a fresh model take minutes to draw at 50 million ids; zeros do for the time of a step.
        self.model = model.to_empty(device="cpu")
        for tensor in self.model.state_dict().values():
            tensor.zero_()
        for part in (self.model.linear.weights, self.model.embedding):
            part.offsets = torch.arange(NUM_FIELDS) * of_field
        for weight in self.model.deep.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        self.settings = LoopConfig(1, 1, bf16=True)
        self.optimizer = Optimizer(self.model, 0.001, kind=kind)
        self.loop = TrainingLoop(self.model, self.optimizer, SingleProcess(), self.settings)
        self.batches = [Batch.draw(random, of_field) for _ in range(8)]

    def seconds(self) -> list[float]:
        """Time each step."""
        seconds = []
        for batch in self.batches:
            started = time.perf_counter()
            self.loop.step(batch)
            seconds.append(time.perf_counter() - started)
        return seconds


def time_tables(sizes: list[int], num_rounds: int, kind: str) -> dict[int, dict]:
    """By number of ids: milliseconds of a step, as a multiple of the first size's, and the process's peak."""
    found = {}
    first = Stepper(sizes[0], kind)
    for size in sizes:
        stepper = first if size == sizes[0] else Stepper(size, kind)
        stepper.seconds()  # the first steps touch pages that are new
        first.seconds()
        ratios, own = [], []
        for _ in range(num_rounds):
            own.append(statistics.median(stepper.seconds()))
            ratios.append(own[-1] / statistics.median(first.seconds()))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found[size] = {
            "ms": 1e3 * statistics.median(own), "ratio": statistics.median(ratios), "peak_gib": peak
        }  # fmt: skip
        del stepper
        gc.collect()
    return found


def memory_over_epochs(dataset_url: str, manifest: Manifest, num_epochs: int = 6) -> list[int]:
    """MiB that this process holds after each epoch that is read."""
    held = []
    for epoch in range(num_epochs):
        for _ in read_batches(dataset_url, manifest, "train", Shard(0, 1, BATCH), epoch=epoch, seed=1):
            pass
        held.append(psutil.Process().memory_info().rss >> 20)
    return held


def time_loaders(dataset_url: str, manifest: Manifest, num_rounds: int) -> dict[str, float]:
    """Rows/s of each way over the training rows, the median over rounds."""
    num_rows, folder = manifest.splits["train"].num_rows, f"{dataset_url}/train"
    files = [f"{folder}/{file.name}" for file in manifest.splits["train"].files]

    def ours() -> int:
        return sum(
            len(b.ids) for b in read_batches(dataset_url, manifest, "train", Shard(0, 1, BATCH), seed=1)
        )

    def petastorm() -> int:
        # Files, as ours: given the folder it would unpickle what lies in it.
        with make_batch_reader(files, num_epochs=1, reader_pool_type="thread") as reader:
            loader = BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=SHUFFLE_ROWS)
            return sum(len(batch[manifest.data.label]) for batch in loader)

    def pyarrow() -> int:
        return sum(pq.read_table(local_path(file)).num_rows for file in files)

    found: dict[str, list[float]] = {}
    for _ in range(num_rounds):
        for name, read in (("ours", ours), ("petastorm", petastorm), ("pyarrow", pyarrow)):
            started = time.perf_counter()
            seen = read()
            found.setdefault(name, []).append(num_rows / (time.perf_counter() - started))
            if seen != num_rows:
                click.echo(f"{name} read {seen} of {num_rows} rows", err=True)
    return {name: statistics.median(speeds) for name, speeds in found.items()}


@click.command(help=__doc__.replace("rows reach it.\n\n", "rows reach it.\n\n\b\n"))
@click.option("--dataset", required=True, help="What build_features.py wrote, on this machine.")
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
    shown = Table("ids", "ms a step", "of the first", "peak GiB of the process")
    for size, row in tables.items():
        shown.add_row(f"{size:,}", f"{row['ms']:.1f}", f"{row['ratio']:.2f}", f"{row['peak_gib']:.1f}")
    Console().print(shown)
    shown = Table("rows through", "rows/s", "of pyarrow's")
    for name, speed in loaders.items():
        shown.add_row(name, f"{speed:,.0f}", f"{speed / loaders['pyarrow']:.2f}")
    Console().print(shown)
    Console().print(f"MiB held after each epoch that ours reads: {', '.join(map(str, memory))}")
    click.echo(json.dumps({"tables": tables, "loaders": loaders, "memory": memory}))


if __name__ == "__main__":
    main()
