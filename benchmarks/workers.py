"""What a second worker brings: two Horovod processes of one thread each, taking turns within one run.

    python benchmarks/workers.py --dataset work/benchmarks/training/dataset [--rounds 8]

In each round rank 0 trains alone; then both do, each for itself, which is all that the machine allows;
then both train together, 4096 rows each a step, with rows of tables crossing as 32 or as 16 bit floats.
The median over rounds counts, of samples/s as a multiple of one worker's in the same round.
Stdout ends with a line of JSON.
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
from deepfm.dataset.read import Shard, read_batches
from deepfm.distributed.collectives import HorovodCollectives, SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.storage import absolute_url
from deepfm.training.device import retain_freed_memory
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizer import Optimizer

BATCH, NUM_STEPS = 4096, 16
WAYS = ("alone, each for itself", "together, 32 bit", "together, 16 bit")


def take_turns(dataset_url: str, num_rounds: int) -> dict | None:
    """On each rank; rank 0 returns samples/s by way, a value a round, and the bytes it sent a step."""
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

    speeds: dict[str, list[float]] = {"one worker": [], **{way: [] for way in WAYS}}
    for _ in range(num_rounds + 1):
        for way, found in speeds.items():
            collectives.all_reduce_([torch.zeros(1)], "all are here")
            if way == "one worker":
                found.append(speed(SingleProcess()) if collectives.rank == 0 else 0.0)
            elif way == WAYS[0]:
                found.append(2 * speed(SingleProcess()))
            else:
                found.append(2 * speed(collectives, "bf16" if "16" in way else "fp32"))
    # The first round is for warming up.
    return {"speeds": {way: found[1:] for way, found in speeds.items()}, "sent": sent}


@click.command(help=__doc__.replace("within one run.\n\n", "within one run.\n\n\b\n"))
@click.option("--dataset", required=True, help="What build_features.py wrote.")
@click.option("--rounds", default=8, show_default=True)
def main(dataset: str, rounds: int) -> None:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", False).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    arguments = (absolute_url(dataset), rounds)
    found, _ = horovod.spark.run(take_turns, args=arguments, num_proc=2, use_gloo=True, verbose=0)
    spark.stop()
    alone = found["speeds"].pop("one worker")
    ratios = {
        way: statistics.median(both / one for both, one in zip(of_way, alone, strict=True))
        for way, of_way in found["speeds"].items()
    }
    table = Table("two workers of one thread", "samples/s of one worker's", "sent a step, dense + sparse")
    for way, ratio in ratios.items():
        sent = found["sent"]["bf16" if "16" in way else "fp32"] if "together" in way else None
        table.add_row(way, f"{ratio:.2f}", f"{sent['dense']:,} + {sent['sparse']:,} bytes" if sent else "")
    Console().print(table)
    click.echo(
        json.dumps({"one_worker": round(statistics.median(alone)), "ratios": ratios, "sent": found["sent"]})
    )


if __name__ == "__main__":
    main()
