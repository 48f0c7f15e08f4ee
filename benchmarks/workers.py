"""Speedup by a second worker: two Horovod processes with one thread each, in turn within one run.

    python benchmarks/workers.py --dataset work/benchmarks/training/dataset [--rounds 8]

In each round rank 0 trains alone; then both train independently, which is the limit of the machine; then both
train together, with 4096 rows each per step and table rows sent as 32 or 16 bit floats. Reports the median
over rounds of samples/s relative to one worker in the same round. Stdout ends with a line of JSON.
"""

import json
import os
import statistics
import sys
import time
from itertools import islice

import click
import horovod.spark
import torch
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import read_batches
from deepfm.dataset.shard import Shard
from deepfm.distributed.collectives import HorovodCollectives, SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.storage import absolute_url
from deepfm.training.device import retain_freed_memory
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizers.optimizer import Optimizer

BATCH, NUM_STEPS = 4096, 16
MODES = ("two, independent", "together, 32 bit", "together, 16 bit")


def take_turns(dataset_url: str, num_rounds: int) -> dict | None:
    """Run on each rank; rank 0 returns samples/s by mode and round, and the bytes sent per step."""
    torch.set_num_threads(1)
    retain_freed_memory()
    collectives, manifest = HorovodCollectives(), read_manifest(dataset_url)
    shard = Shard(collectives.rank, collectives.size, BATCH)
    batches = list(islice(read_batches(dataset_url, manifest, "train", shard, epoch=1, seed=1), NUM_STEPS))
    model = DeepFM(manifest.num_ids, 16, hidden_units=(400, 400, 400))
    optimizer, sent = Optimizer(model, 0.001), {}

    def speed(collectives, gradient_compression="fp32"):
        settings = LoopConfig(1, 1, bf16=True, gradient_compression=gradient_compression)
        loop = TrainingLoop(model, optimizer, collectives, settings)
        started = time.perf_counter()
        loop.run_epoch(iter(batches))
        sent[gradient_compression] = loop.synchronizer.sent_bytes_per_step
        return BATCH * NUM_STEPS / (time.perf_counter() - started)

    speeds: dict[str, list[float]] = {"one worker": [], **{mode: [] for mode in MODES}}
    for _ in range(num_rounds + 1):
        for mode, values in speeds.items():
            collectives.all_reduce_([torch.zeros(1)], "start together")
            if mode == "one worker":
                values.append(speed(SingleProcess()) if collectives.rank == 0 else 0.0)
            elif mode == MODES[0]:
                values.append(2 * speed(SingleProcess()))
            else:
                values.append(2 * speed(collectives, "bf16" if "16" in mode else "fp32"))
    # The first round is a warm-up.
    return {"speeds": {mode: values[1:] for mode, values in speeds.items()}, "sent": sent}


@click.command(help=__doc__.replace("within one run.\n\n", "within one run.\n\n\b\n"))
@click.option("--dataset", required=True, help="Dataset written by build_features.py.")
@click.option("--rounds", default=8, show_default=True)
def main(dataset: str, rounds: int) -> None:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", False).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    arguments = (absolute_url(dataset), rounds)
    result, _ = horovod.spark.run(take_turns, args=arguments, num_proc=2, use_gloo=True, verbose=0)
    spark.stop()
    single = result["speeds"].pop("one worker")
    ratios = {
        mode: statistics.median(pair / one for pair, one in zip(speeds, single, strict=True))
        for mode, speeds in result["speeds"].items()
    }
    table = Table(
        "two workers of one thread", "samples/s relative to one worker", "sent per step, dense + sparse"
    )
    for mode, ratio in ratios.items():
        sent = result["sent"]["bf16" if "16" in mode else "fp32"] if "together" in mode else None
        table.add_row(mode, f"{ratio:.2f}", f"{sent['dense']:,} + {sent['sparse']:,} bytes" if sent else "")
    Console().print(table)
    click.echo(
        json.dumps({"one_worker": round(statistics.median(single)), "ratios": ratios, "sent": result["sent"]})
    )


if __name__ == "__main__":
    main()
