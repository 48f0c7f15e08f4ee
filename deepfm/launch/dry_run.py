"""A training without a training: what it would take, from a few steps whose weights are thrown away."""

import json
import logging
import resource
import time
from dataclasses import asdict, dataclass
from itertools import islice

import torch

from deepfm.distributed.collectives import Collectives
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.oom import explain_out_of_memory
from deepfm.launch.placement import WorkerPlacement
from deepfm.launch.progress import log_placement
from deepfm.launch.worker import Worker
from deepfm.training.loop import build_synchronizer, train_step

logger = logging.getLogger(__name__)

#: The first takes longer: memory is fetched, kernels are chosen.
_NUM_STEPS = 4


@dataclass(frozen=True)
class DryRunResult:
    """What a training would take."""

    places: tuple[WorkerPlacement, ...]  # of the workers
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


def dry_run(job: TrainJob, collectives: Collectives) -> DryRunResult:
    """On every rank: read the first batches and take steps with them; nothing is kept."""
    worker = Worker(job, collectives)
    with explain_out_of_memory(collectives.rank, job.model, worker.manifest.num_ids):
        return _take_steps(job, collectives, worker)


def _take_steps(job: TrainJob, collectives: Collectives, worker: Worker) -> DryRunResult:
    settings = job.model
    model, optimizer = worker.new_model(settings)
    loop_config = worker.loop_config(settings)
    synchronizer = build_synchronizer(model, collectives, loop_config)
    seconds = []
    model.train()
    # A split may have fewer steps; of the same number of rows all ranks have the same number.
    for batch in islice(worker.read(settings, "train", epoch=1, seed=settings.training.seed), _NUM_STEPS):
        started = time.monotonic()
        train_step(model, optimizer, synchronizer, loop_config, batch)
        seconds.append(time.monotonic() - started)
    peak = torch.tensor([_peak_bytes(worker.device)])
    peaks = collectives.all_gather_async(peak, "peaks")().tolist()
    moments = sum(value.numel() * value.element_size() for value in optimizer.state().values())
    weights = sum(weight.numel() * weight.element_size() for weight in model.state_dict().values())
    return DryRunResult(
        places=tuple(worker.places),
        num_weights=sum(weight.numel() for weight in model.parameters()),
        num_steps=worker.num_steps(settings),
        max_epochs=settings.training.max_epochs,
        step_seconds=sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2],
        model_bytes=weights + moments,
        peak_bytes=max(peaks),
    )


def log_dry_run(rehearsal: DryRunResult) -> dict:
    """Log it in words -> its figures, for a job's summary."""
    log_placement(rehearsal.places)
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


def dry_run_to_json(rehearsal: DryRunResult) -> str:
    """For the way back from a worker."""
    return json.dumps(asdict(rehearsal))


def dry_run_from_json(text: str) -> DryRunResult:
    """What `dry_run_to_json` wrote."""
    document = json.loads(text)
    return DryRunResult(
        **{**document, "places": tuple(WorkerPlacement(**place) for place in document["places"])}
    )
