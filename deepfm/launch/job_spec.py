"""What a worker is told to do, and the names of what it leaves."""

from dataclasses import dataclass

from deepfm.settings.model import ModelSettings

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
#: Of the FM that an FNN starts from; its curves have the prefix in MLflow.
FIRST_STAGE_WEIGHTS, FIRST_STAGE = "fm.safetensors", "fm_"


@dataclass(frozen=True)
class TrainJob:
    """All a worker needs to know; small and plain, for it travels."""

    dataset_url: str
    run_url: str  # a folder of this run; the driver and every worker reach it
    model: ModelSettings
    num_threads: int
    init_url: str | None = None  # fnn: weights of the FM to start from; None: one is trained first
    checkpoint_every_n_steps: int | None = None  # and after each epoch; 0: only then; None: never
    checkpoint_every_min: float = 0.0  # so many minutes after the last one too; 0: not
    resume: bool = False  # go on from the last checkpoint in the run's folder
    start_url: str | None = None  # a folder of weights, and of what the optimizer remembers, to go on from
    profile_steps: int = 0  # steps of each training that rank 0 traces, see training.trace
    asks_prune_signal: bool = False  # after each epoch, whether to go on, see training.verdict
    slice_fields: tuple[str, ...] = ()  # categories by whose values the test rows are measured too
    min_slice_rows: int = 1  # where a value has so many rows
    heartbeat_every_s: float = 10.0  # between two signs of life, see training.pulse
