"""Which worker trains where."""

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
    """One worker's."""

    rank: int
    host: str
    device: str  # such as cuda:0 NVIDIA H100, or cpu with 4 threads
    gpu: str | None = None  # its uuid: cuda:0 may be another one in each process


def gather_placement(collectives: Collectives, device: torch.device) -> list[WorkerPlacement]:
    """The places of all ranks, by rank; the same on every rank. UserError where two have one GPU."""
    name, gpu = "cpu", None
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        name, gpu = f"{device} {found.name}", str(found.uuid)
    own = WorkerPlacement(
        collectives.rank, socket.gethostname(), f"{name}, {torch.get_num_threads()} threads", gpu
    )
    line = bytearray((json.dumps(asdict(own)) + "\n").encode())
    lines = collectives.all_gather_async(torch.frombuffer(line, dtype=torch.uint8), "roll call")()
    places = [WorkerPlacement(**json.loads(line)) for line in bytes(lines.tolist()).decode().splitlines()]
    require_own_gpus(places)
    return sorted(places, key=lambda place: place.rank)


def require_own_gpus(places: Sequence[WorkerPlacement]) -> None:
    """UserError where two ranks have one GPU: NCCL, which all that train on GPUs have, refuses that."""
    on_gpu = defaultdict(list)
    for place in places:
        if place.gpu is not None:
            on_gpu[place.host, place.gpu].append(place)
    for sharing in on_gpu.values():
        if len(sharing) > 1:
            place = f"{sharing[0].host}, {sharing[0].device}"
            raise UserError(
                f"expected a GPU for each worker, found {len(sharing)} workers on one GPU of {place}; give "
                "fewer --num-workers (1 for one GPU), or more GPUs"
            )
