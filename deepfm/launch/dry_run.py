"""Dry run of a training: a few steps on real batches, to measure time and memory; nothing is kept."""

import json
import logging
import resource
import time
from dataclasses import asdict, dataclass
from itertools import islice

import torch

from deepfm.distributed.collectives import Collectives
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.placement import WorkerPlacement
from deepfm.launch.progress import log_placement
from deepfm.launch.rank.worker import Worker
from deepfm.launch.worker_errors import explain_out_of_memory
from deepfm.training.loop import TrainingLoop

logger = logging.getLogger(__name__)

#: The first step takes longer: it allocates memory and chooses kernels.
_NUM_STEPS = 4


@dataclass(frozen=True)
class DryRunResult:
    """Time and memory that a training would take."""

    placements: tuple[WorkerPlacement, ...]
    num_weights: int
    num_steps: int  # per epoch
    max_epochs: int
    step_seconds: float  # median of a few steps on rank 0
    model_bytes: int  # weights and optimizer state, on each worker
    peak_bytes: int  # largest resident size of a worker; on a GPU, its largest allocation

    @property
    def epoch_seconds(self) -> float:
        """Time of one epoch without validation."""
        return self.num_steps * self.step_seconds


def dry_run(job: TrainJob, collectives: Collectives) -> DryRunResult:
    """Read the first batches and take steps with them, on every rank."""
    worker = Worker(job, collectives)
    with explain_out_of_memory(collectives.rank, job.model, worker.manifest.num_ids):
        return _take_steps(job, collectives, worker)


def _take_steps(job: TrainJob, collectives: Collectives, worker: Worker) -> DryRunResult:
    # Counting the training rows for it would take as long as reading them all.
    undamped = job.model.training.model_copy(update={"rare_id_damping": 0.0})
    settings = job.model.model_copy(update={"training": undamped})
    model, optimizer = worker.new_model(settings)
    config = worker.loop_config(settings)
    loop = TrainingLoop(model, optimizer, collectives, config)
    seconds = []
    model.train()
    # A split may have fewer steps; all ranks have the same number of steps.
    for batch in islice(worker.read(settings, "train", seed=settings.training.seed), _NUM_STEPS):
        started = time.monotonic()
        loop.step(batch)
        seconds.append(time.monotonic() - started)
    peak = torch.tensor([_peak_bytes(worker.device)])
    peaks = collectives.all_gather_async(peak, "peaks")().tolist()
    state_bytes = sum(value.numel() * value.element_size() for value in optimizer.state().values())
    weight_bytes = sum(weight.numel() * weight.element_size() for weight in model.state_dict().values())
    return DryRunResult(
        placements=tuple(worker.placements),
        num_weights=sum(weight.numel() for weight in model.parameters()),
        num_steps=config.steps.per_epoch,
        max_epochs=settings.training.max_epochs,
        step_seconds=sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2],
        model_bytes=weight_bytes + state_bytes,
        peak_bytes=max(peaks),
    )


def log_dry_run(result: DryRunResult) -> dict:
    """Log the result and return it for the summary of a job."""
    log_placement(result.placements)
    logger.info(
        "num_weights=%d model_gib=%.2f peak_gib=%.2f per worker",
        result.num_weights,
        result.model_bytes / 2**30,
        result.peak_bytes / 2**30,
    )
    logger.info(
        "steps_per_epoch=%d step_seconds=%.3f epoch_minutes=%.1f total_minutes=%.1f, without validation",
        result.num_steps,
        result.step_seconds,
        result.epoch_seconds / 60,
        result.epoch_seconds * result.max_epochs / 60,
    )
    values = {key: value for key, value in asdict(result).items() if key != "placements"}
    return {"dry_run": True, "num_workers": len(result.placements), **values}


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def dry_run_to_json(result: DryRunResult) -> str:
    """Serialize for the way from worker to driver."""
    return json.dumps(asdict(result))


def dry_run_from_json(text: str) -> DryRunResult:
    """Parse what `dry_run_to_json` wrote."""
    document = json.loads(text)
    placements = tuple(WorkerPlacement(**placement) for placement in document.pop("placements"))
    return DryRunResult(**document, placements=placements)
