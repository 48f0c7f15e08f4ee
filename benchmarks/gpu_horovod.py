"""Horovod's operations on tensors of a device, with one process, and a training step through them."""

import json
import sys
import time

import torch
from gpu_data import draw_batches
from gpu_timing import synchronize
from gpu_training import SMALL, Sizes, new_loop, new_model

from deepfm.distributed.collectives import HorovodCollectives
from deepfm.training.gradient_sync import GradientSynchronizer


class _SharedSynchronizer(GradientSynchronizer):
    """Sends gradients although no other process receives them: two processes would need two GPUs."""

    @property
    def has_others(self) -> bool:
        return True


def measure_horovod(sizes: Sizes, device: torch.device) -> dict:
    """Check each operation, and time it and a training step with it."""
    import horovod.torch as hvd

    started = time.perf_counter()
    collectives = HorovodCollectives()
    results: dict = {
        "init_seconds": time.perf_counter() - started,
        "nccl": bool(hvd.nccl_built()),
        "gpu": collectives.gpu,
    }
    value = torch.randn(1 << 20, device=device)
    expected = value.clone()
    operations = {
        "all_reduce": lambda name: collectives.all_reduce_([value], name),
        "all_gather": lambda name: collectives.all_gather_async(value, name)(),
        "broadcast": lambda name: collectives.broadcast_([value], name),
        "alltoall": lambda name: hvd.alltoall(value, name=name),
    }
    for name, operation in operations.items():
        result = operation(name)
        result = result[0] if isinstance(result, tuple) else result
        tensor = value if result is None else result
        is_right = tensor.device == device and torch.equal(tensor, expected)
        results[name] = {"works": is_right, "ms": 1e3 * _seconds(lambda op=operation, n=name: op(n), device)}
    loop = new_loop(new_model(sizes.num_ids, device), device)
    (batch,) = draw_batches(1, sizes.batch, sizes.num_ids, device)
    alone = _seconds(lambda: loop.step(batch), device)
    loop.synchronizer = _SharedSynchronizer(loop.model, collectives)
    through = _seconds(lambda: loop.step(batch), device)
    loss = loop.step(batch) / sizes.batch
    results["step"] = {"alone_ms": 1e3 * alone, "through_horovod_ms": 1e3 * through, "loss": loss}
    hvd.shutdown()
    return results


def _seconds(work, device: torch.device, num_calls: int = 20) -> float:
    for _ in range(3):
        work()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(num_calls):
        work()
    synchronize(device)
    return (time.perf_counter() - started) / num_calls


if __name__ == "__main__":
    chosen = torch.device(sys.argv[1])
    print(json.dumps(measure_horovod(SMALL if "--small" in sys.argv else Sizes(), chosen)))
