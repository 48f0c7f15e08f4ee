"""A training without a training: what it would take, from a few steps whose weights are thrown away."""

import json
import logging
import resource
import time
from dataclasses import asdict, dataclass
from itertools import islice

import torch

from deepfm.distributed.collectives import World
from deepfm.launch.job_spec import WorkOrder
from deepfm.launch.oom import memory_advice
from deepfm.launch.placement import Place
from deepfm.launch.progress import tell_places
from deepfm.launch.worker import Worker
from deepfm.training.loop import make_exchange, train_step

logger = logging.getLogger(__name__)

#: The first takes longer: memory is fetched, kernels are chosen.
_NUM_STEPS = 4


@dataclass(frozen=True)
class Rehearsal:
    """What a training would take."""

    places: tuple[Place, ...]  # of the workers
    num_weights: int
    num_steps: int  # of an epoch
    max_epochs: int
    step_seconds: float  # the median of a few, by rank 0
    model_bytes: int  # weights, and what the optimizer remembers of them, on each worker
    peak_bytes: int  # the largest that a worker's process was; on a GPU, what it took of its memory

    @property
    def epoch_seconds(self) -> float:
        """Of a pass over the training rows, without the validation that follows."""
        return self.num_steps * self.step_seconds


def rehearse(order: WorkOrder, world: World) -> Rehearsal:
    """On every rank: read the first batches and take steps with them; nothing is kept."""
    worker = Worker(order, world)
    with memory_advice(world.rank, order.model, worker.manifest.num_ids):
        return _take_steps(order, world, worker)


def _take_steps(order: WorkOrder, world: World, worker: Worker) -> Rehearsal:
    settings = order.model
    model, optimizer = worker.new_model(settings)
    loop_settings = worker.loop_settings(settings)
    exchange = make_exchange(model, world, loop_settings)
    seconds = []
    model.train()
    # A split may have fewer steps; of the same number of rows all ranks have the same number.
    for batch in islice(worker.read(settings, "train", epoch=1, seed=settings.training.seed), _NUM_STEPS):
        started = time.monotonic()
        train_step(model, optimizer, exchange, loop_settings, batch)
        seconds.append(time.monotonic() - started)
    peak = torch.tensor([_peak_bytes(worker.device)])
    peaks = world.start_gather(peak, "peaks")().tolist()
    moments = sum(value.numel() * value.element_size() for value in optimizer.state().values())
    weights = sum(weight.numel() * weight.element_size() for weight in model.state_dict().values())
    return Rehearsal(
        places=tuple(worker.places),
        num_weights=sum(weight.numel() for weight in model.parameters()),
        num_steps=worker.num_steps(settings),
        max_epochs=settings.training.max_epochs,
        step_seconds=sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2],
        model_bytes=weights + moments,
        peak_bytes=max(peaks),
    )


def tell_rehearsal(rehearsal: Rehearsal) -> dict:
    """Log it in words -> its figures, for a job's summary."""
    tell_places(rehearsal.places)
    logger.info(
        "%s weights: %.2f GiB with what the optimizer remembers, on each worker, whose process took %.2f GiB",
        f"{rehearsal.num_weights:,}",
        rehearsal.model_bytes / 2**30,
        rehearsal.peak_bytes / 2**30,
    )
    logger.info(
        "%d steps of %.3f s: %.1f min an epoch, %.1f min for all %d, validation not counted",
        rehearsal.num_steps,
        rehearsal.step_seconds,
        rehearsal.epoch_seconds / 60,
        rehearsal.epoch_seconds * rehearsal.max_epochs / 60,
        rehearsal.max_epochs,
    )
    figures = {key: value for key, value in asdict(rehearsal).items() if key != "places"}
    return {"dry_run": True, "num_workers": len(rehearsal.places), **figures}


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rehearsal_to_json(rehearsal: Rehearsal) -> str:
    """For the way back from a worker."""
    return json.dumps(asdict(rehearsal))


def rehearsal_from_json(text: str) -> Rehearsal:
    """What `rehearsal_to_json` wrote."""
    document = json.loads(text)
    return Rehearsal(**{**document, "places": tuple(Place(**place) for place in document["places"])})
