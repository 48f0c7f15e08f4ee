"""Placement of the workers: host and device of each rank."""

import json
import socket
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from deepfm.distributed.collectives import Collectives
from deepfm.errors import UserError


@dataclass(frozen=True)
class WorkerPlacement:
    """Host and device of one rank."""

    rank: int
    host: str
    device: str  # such as "cuda:0 NVIDIA H100, 4 threads" or "cpu, 4 threads"
    gpu: str | None = None  # UUID: cuda:0 can be a different GPU in each process


def gather_placement(collectives: Collectives, device: torch.device) -> list[WorkerPlacement]:
    """Gather the placement of all ranks, in order, on every rank.

    Raises UserError if two ranks share a GPU.
    """
    name, gpu = "cpu", None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, gpu = f"{device} {properties.name}", str(properties.uuid)
    local = WorkerPlacement(
        collectives.rank, socket.gethostname(), f"{name}, {torch.get_num_threads()} threads", gpu
    )
    line = bytearray((json.dumps(asdict(local)) + "\n").encode())
    lines = collectives.all_gather_async(torch.frombuffer(line, dtype=torch.uint8), "placement")()
    placements = [WorkerPlacement(**json.loads(line)) for line in bytes(lines.tolist()).decode().splitlines()]
    require_separate_gpus(placements)
    return sorted(placements, key=lambda placement: placement.rank)


def require_separate_gpus(placements: Sequence[WorkerPlacement]) -> None:
    """Raise UserError if two ranks share a GPU: NCCL refuses that."""
    by_gpu = defaultdict(list)
    for placement in placements:
        if placement.gpu is not None:
            by_gpu[placement.host, placement.gpu].append(placement)
    for sharing in by_gpu.values():
        if len(sharing) > 1:
            raise UserError(
                f"expected one GPU per worker, found {len(sharing)} workers on one GPU of {sharing[0].host}, "
                f"{sharing[0].device}; lower --num-workers (1 for one GPU), or add GPUs"
            )
