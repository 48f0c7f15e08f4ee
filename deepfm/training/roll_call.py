"""Which worker trains where."""

import json
import socket
from dataclasses import asdict, dataclass

import torch

from deepfm.training.world import World


@dataclass(frozen=True)
class Place:
    """One worker's."""

    rank: int
    host: str
    device: str  # such as cuda:0 NVIDIA H100, or cpu with 4 threads


def call_roll(world: World, device: torch.device) -> list[Place]:
    """The places of all ranks, by rank; the same on every rank."""
    name = f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "cpu"
    own = Place(world.rank, socket.gethostname(), f"{name}, {torch.get_num_threads()} threads")
    line = bytearray((json.dumps(asdict(own)) + "\n").encode())
    lines = world.start_gather(torch.frombuffer(line, dtype=torch.uint8), "roll call")()
    places = [Place(**json.loads(line)) for line in bytes(lines.tolist()).decode().splitlines()]
    return sorted(places, key=lambda place: place.rank)
