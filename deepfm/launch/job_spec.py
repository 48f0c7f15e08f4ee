"""Specification of a training job, as sent to the workers, and the names of the files it writes."""

from dataclasses import dataclass

from deepfm.settings.model import ModelSettings

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"


def stage_weights(model: str) -> str:
    """Name of the file with the weights of an earlier stage."""
    return f"{model}.safetensors"


def stage_prefix(model: str) -> str:
    """Prefix of the metrics of an earlier stage."""
    return f"{model}_"


@dataclass(frozen=True)
class TrainJob:
    """Everything a worker needs to know; small and plain, because it is pickled to the workers."""

    dataset_url: str
    run_url: str  # run folder, reachable by the driver and every worker
    model: ModelSettings
    num_threads: int
    init_url: str | None = None  # fnn: weights of the FM to start from; None: an FM is trained first
    checkpoint_every_n_steps: int | None = None  # and after each epoch; 0: only then; None: no checkpoints
    checkpoint_every_min: float = 0.0  # in addition, after so many minutes; 0: off
    resume: bool = False  # resume from the last checkpoint in the run folder
    start_url: str | None = None  # folder with weights and optimizer state to start from (warm start)
    profile_steps: int = 0  # steps of each training that rank 0 profiles, see training.profiler
    asks_prune_signal: bool = False  # ask the driver after each epoch, see launch.prune_signal
    slice_fields: tuple[str, ...] = ()  # categories for which test metrics are computed by value
    min_slice_rows: int = 1  # values with fewer rows are omitted
    heartbeat_every_s: float = 10.0  # see launch.heartbeat
