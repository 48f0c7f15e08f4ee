"""The course of a training: its epochs, and where it stands."""

from dataclasses import asdict, dataclass, field

from deepfm.training.metrics import Metrics


@dataclass
class Epoch:
    """What one pass over the training rows came to."""

    number: int  # from 1
    train_logloss: float  # mean over the epoch's steps, while the weights moved; of the rows that were kept
    valid: Metrics
    samples_per_s: float  # of all ranks together, validation not counted
    seconds: float  # validation counted


@dataclass
class Training:
    """The course of one training."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0  # number of the epoch whose weights are kept: best on the validation rows, or the last
    # What a rank sent of dense gradients and of rows of tables, since it was started.
    sent_bytes_per_step: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass
class Position:
    """Where a training stands between two steps."""

    training: Training = field(default_factory=Training)  # the epochs that are done
    step: int = 0  # how many of the present epoch are done
    sum_logloss: float = 0.0  # over these steps
    num_rows: int = 0
