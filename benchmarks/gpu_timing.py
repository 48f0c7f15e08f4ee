"""Timing on a device, and the two ceilings that the parts of a step are compared with."""

import statistics
import time
from collections.abc import Callable

import torch


def synchronize(device: torch.device) -> None:
    """Wait for the work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time one call, until the device has finished."""
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def median_seconds(work: Callable[[], object], device: torch.device, num_calls: int = 20) -> float:
    """Median time of a call, after warm-up; on a GPU by events, so without the time of the host."""
    for _ in range(3):
        work()
    if device.type != "cuda":
        return statistics.median(seconds(work, device) for _ in range(num_calls))
    times = []
    for _ in range(num_calls):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def ceilings(device: torch.device) -> dict:
    """Bytes/s of a copy, read and written, and FLOP/s of a large bfloat16 matrix product."""
    num_bytes, size = (1 << 31, 8192) if device.type == "cuda" else (1 << 26, 512)
    source = torch.randint(0, 255, (num_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return {
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "memory_gib": torch.cuda.mem_get_info(device)[1] / 2**30 if device.type == "cuda" else 0,
        "copy_bytes_per_s": 2 * num_bytes / median_seconds(lambda: target.copy_(source), device, 10),
        "bf16_flops_per_s": 2 * size**3 / median_seconds(lambda: one @ other, device, 10),
    }
