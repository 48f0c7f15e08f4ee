"""Training on a device: equal to the CPU, speed of a step, its parts, large tables, out of memory."""

import itertools
from dataclasses import dataclass
from functools import partial

import torch
from gpu_data import NUM_FIELDS, draw_batches, repeated
from gpu_timing import seconds
from torch.profiler import ProfilerActivity, profile

from deepfm.dataset.data_file import ROWS_PER_FILE
from deepfm.distributed.collectives import SingleProcess
from deepfm.errors import OutOfMemoryError
from deepfm.launch.worker_errors import explain_out_of_memory
from deepfm.models.deepfm import DeepFM
from deepfm.settings.model import ModelSettings
from deepfm.training.device import multiplies_bf16
from deepfm.training.evaluation import evaluate
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizers.optimizer import Optimizer

DIM, HIDDEN = 16, (400, 400, 400)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements."""

    loss_steps: int = 200
    loss_batch: int = 4096
    batch: int = 65_536
    steps: int = 60
    num_ids: int = 237_000
    many_ids: int = 10_000_000
    huge_ids: tuple[int, ...] = (100_000_000, 300_000_000)
    too_many_ids: int = 4_000_000_000
    eval_batch: int = 262_144
    files: int = 96
    rows_per_file: int = ROWS_PER_FILE


#: To try the program on a CPU.
SMALL = Sizes(5, 256, 512, 4, 3900, 39_000, (390_000,), 40_000_000_000, 1024, 3, 2048)


def new_model(num_ids: int, device: torch.device) -> DeepFM:
    """Create DeepFM with 39 equal fields, its weights drawn on the device."""
    torch.manual_seed(1)
    with torch.device(device):
        return DeepFM([num_ids // NUM_FIELDS] * NUM_FIELDS, DIM, hidden_units=HIDDEN)


def new_loop(
    model: DeepFM, device: torch.device, kind: str = "adagrad", *, bf16: bool = True
) -> TrainingLoop:
    """Create the loop of one process."""
    table_rate = 0.02 if kind == "adagrad" else None
    optimizer = Optimizer(model, 0.001, kind=kind, table_learning_rate=table_rate)
    config = LoopConfig(1, 1, bf16=bf16 and multiplies_bf16(device))
    return TrainingLoop(model, optimizer, SingleProcess(), config)


def compare_losses(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Largest relative difference of the loss of each step from that on the CPU, in fp32."""
    cpu, differences = torch.device("cpu"), {}
    for kind in ("adagrad", "adam"):
        losses = []
        for where in (cpu, device):
            model = new_model(sizes.num_ids, cpu).to(where)
            loop = new_loop(model, where, kind, bf16=False)
            batches = draw_batches(sizes.loss_steps, sizes.loss_batch, sizes.num_ids, where)
            losses.append([loop.step(batch) for batch in batches])
        pairs = list(zip(*losses, strict=True))
        differences[kind] = max(abs(one - other) / one for one, other in pairs)
        differences[f"{kind}, first loss"] = losses[1][0] / sizes.loss_batch
        differences[f"{kind}, last loss"] = losses[1][-1] / sizes.loss_batch
    return differences


def time_steps(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Samples/s of steps on batches in device memory, with the grouping of their ids."""
    speeds = {}
    for num_ids, kind in itertools.product((sizes.num_ids, sizes.many_ids), ("adagrad", "adam")):
        batches = draw_batches(8, sizes.batch, num_ids, device)
        loop = new_loop(new_model(num_ids, device), device, kind)
        loop.run_epoch(repeated(batches, 8))  # warm-up: load kernels, fill the allocator
        time = seconds(partial(loop.run_epoch, repeated(batches, sizes.steps)), device)
        speeds[f"{num_ids} ids, {kind}"] = sizes.steps * sizes.batch / time
    return speeds


def profile_steps(sizes: Sizes, device: torch.device) -> list[str]:
    """Device and host time of the operations of five steps."""
    batches = draw_batches(8, sizes.batch, sizes.num_ids, device)
    loop = new_loop(new_model(sizes.num_ids, device), device)
    loop.run_epoch(repeated(batches, 8))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as traced:
        loop.run_epoch(repeated(batches, 5))
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(traced.key_averages(), key=lambda event: -getattr(event, key))
    return [f"{getattr(e, key) / 5e3:8.3f} ms {e.count / 5:6.1f} x {e.key[:110]}" for e in events[:45]]


def time_evaluation(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Rows/s of an evaluation of batches in device memory."""
    batches = draw_batches(4, sizes.eval_batch, sizes.num_ids, device)
    model, num_steps = new_model(sizes.num_ids, device), 8 if device.type == "cuda" else 1

    def work() -> None:
        evaluate(model, SingleProcess(), repeated(batches, num_steps))

    work()
    return {"rows_per_s": num_steps * sizes.eval_batch / seconds(work, device)}


def train_huge_tables(sizes: Sizes, device: torch.device) -> dict[str, dict]:
    """Steps with tables of many ids and row-wise Adagrad: samples/s and bytes of memory per row."""
    results = {}
    for num_ids in sizes.huge_ids:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        batches = draw_batches(4, sizes.batch, num_ids, device)
        loop = new_loop(new_model(num_ids, device), device)
        loop.run_epoch(repeated(batches, 4))
        time = seconds(partial(loop.run_epoch, repeated(batches, 20)), device)
        held, peak = (
            (torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device))
            if device.type == "cuda"
            else (0, 0)
        )
        results[str(num_ids)] = {
            "samples_per_s": 20 * sizes.batch / time,
            "bytes_per_row": held / num_ids,
            "peak_bytes_per_row": peak / num_ids,
        }
        del loop
    return results


def run_out_of_memory(sizes: Sizes, device: torch.device) -> dict[str, str]:
    """Message of the error for a table that does not fit."""
    settings = ModelSettings.model_validate(
        {
            "model": "deepfm",
            "embedding_dim": DIM,
            "deep": {"hidden_units": list(HIDDEN)},
            "training": {"batch_size": sizes.batch, "max_epochs": 1, "learning_rate": 0.001},
        }
    )
    try:
        with explain_out_of_memory(0, settings, [sizes.too_many_ids]):
            torch.empty(sizes.too_many_ids, DIM, device=device)
    except OutOfMemoryError as error:
        return {"error": str(error)}
    return {"error": "none"}
