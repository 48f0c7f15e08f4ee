"""Speed of DeepFM's training step on one device: alone, with data loading, and relative to a memory copy."""

import time
from collections.abc import Callable, Iterable
from itertools import chain, islice, repeat

import torch
from rich.console import Console
from rich.table import Table

from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import Batch, Shard, read_batches
from deepfm.distributed.collectives import SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.training.device import multiplies_bf16, retain_freed_memory
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizer import Optimizer
from deepfm.training.unique_rows import unique_rows_of

DIM, HIDDEN = 16, (400, 400, 400)
#: A GPU needs more rows to be busy than fit into the cache of a CPU core.
CUDA_BATCH_SIZE, CPU_BATCH_SIZE = 65_536, 4096
_NUM_BATCHES, _MIN_SAMPLES = 8, 2_000_000


def measure(dataset_url: str, device: torch.device) -> dict[str, float]:
    """Measure samples/s of steps on batches in device memory and of an epoch with loading, and bytes/s."""
    retain_freed_memory()
    manifest = read_manifest(dataset_url)
    shard = Shard(0, 1, CUDA_BATCH_SIZE if device.type == "cuda" else CPU_BATCH_SIZE)
    torch.manual_seed(1)
    model = DeepFM(manifest.num_ids, DIM, hidden_units=HIDDEN).to(device)
    settings = LoopConfig(1, 1, bf16=multiplies_bf16(device))
    optimizer = Optimizer(model, 0.001, kind="adagrad", table_learning_rate=0.02)
    loop = TrainingLoop(model, optimizer, SingleProcess(), settings)

    def speed(batches: Iterable[Batch]) -> float:
        return _samples_per_s(loop, batches, device)

    def read(epoch: int) -> Iterable[Batch]:
        batches = read_batches(dataset_url, manifest, "train", shard, epoch=epoch, seed=1)
        return (batch.to(device) for batch in batches)

    batches = list(islice(read(0), _NUM_BATCHES))
    speed(batches)  # warm-up: load kernels, touch memory pages
    rows = sum(len(batch.ids) for batch in batches)
    step_speed = speed(chain.from_iterable(repeat(batches, -(-_MIN_SAMPLES // rows))))
    bytes_per_row = sum(_min_bytes(model, batch) for batch in batches) / rows
    return {
        "step": step_speed,
        "fed": speed(read(1)),
        "bytes_per_s": step_speed * bytes_per_row,
        "copied_bytes_per_s": _copied_bytes_per_s(device),
    }


def _samples_per_s(loop: TrainingLoop, batches: Iterable[Batch], device: torch.device) -> float:
    num_rows = 0

    def count_rows() -> Iterable[Batch]:
        nonlocal num_rows
        for batch in batches:
            num_rows += len(batch.ids)
            yield batch

    seconds = _seconds(lambda: loop.run_epoch(count_rows()), device)
    return num_rows / seconds


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    started = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _min_bytes(model: DeepFM, batch: Batch) -> int:
    """Return the minimum memory traffic of a step, if no cache holds a batch.

    Each looked-up value and its gradient is written once and read once, as 32 bits; so is each hidden unit,
    as 16; each distinct row of the tables and its Adagrad state is read and written.
    """
    num_rows, num_fields = batch.ids.shape
    values = 4 * num_rows * num_fields * (DIM + 1)
    hidden = 2 * num_rows * sum(HIDDEN)
    distinct = len(unique_rows_of(model.embedding, batch.ids).rows)
    return 4 * values + 4 * hidden + 2 * 4 * distinct * (DIM + 1 + 2)


def _copied_bytes_per_s(device: torch.device) -> float:
    source = torch.zeros(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = _seconds(lambda: [target.copy_(source) for _ in range(10)], device)
    return 10 * 2 * source.nbytes / seconds


def show(device: torch.device, metrics: dict[str, float]) -> None:
    """Print a table."""
    table = Table(f"DeepFM on {device}", "")
    table.add_row("samples/s of the step without loading", f"{metrics['step']:,.0f}")
    table.add_row("samples/s with loading by Petastorm", f"{metrics['fed']:,.0f}")
    share = metrics["bytes_per_s"] / metrics["copied_bytes_per_s"]
    table.add_row("bytes/s relative to a copy", f">= {share:.0%} of {metrics['copied_bytes_per_s']:,.0f}")
    Console().print(table)
