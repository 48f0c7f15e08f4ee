"""The course of a training: its epochs, and where it stands."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from deepfm.metrics.binary import Metrics

#: What tells a better epoch from a worse one, of the validation rows.
Monitor = Literal["logloss", "auc"]


@dataclass
class EpochResult:
    """What one pass over the training rows came to."""

    number: int  # from 1
    train_logloss: float  # mean over the epoch's steps, while the weights moved; of the rows that were kept
    valid: Metrics
    samples_per_s: float  # of all ranks together, validation not counted
    seconds: float  # validation counted

    def curves(self, prefix: str = "") -> dict[str, float]:
        """One point of each curve, by its name in MLflow."""
        points = {
            "train_logloss": self.train_logloss,
            "valid_logloss": self.valid.logloss,
            "valid_auc": self.valid.auc,
            "valid_calibration": self.valid.calibration,
            "samples_per_s": self.samples_per_s,
            "epoch_seconds": self.seconds,
        }
        if self.valid.gauc is not None:
            points["valid_gauc"] = self.valid.gauc
        return {"epoch": self.number, **{f"{prefix}{name}": value for name, value in points.items()}}


@dataclass
class TrainingHistory:
    """The course of one training."""

    epochs: list[EpochResult] = field(default_factory=list)
    best: int = 0  # number of the epoch whose weights are kept: best on the validation rows, or the last
    # What a rank sent of dense gradients and of rows of tables, since it was started.
    sent_bytes_per_step: dict[str, int] = field(default_factory=dict)
    stopped: bool = False  # from outside, before it was over: not worth another epoch

    def as_dict(self) -> dict:
        return asdict(self)

    def is_improved_by(self, valid: Metrics, monitor: Monitor) -> bool:
        """Whether an epoch with these metrics would be better than the best so far."""
        return not self.best or _is_better(valid, self.epochs[self.best - 1].valid, monitor)

    def num_reductions(self, monitor: Monitor, patience: int) -> int:
        """How often `patience` epochs in a row were no better than the best before them."""
        best, num_worse, reductions = None, 0, 0
        for epoch in self.epochs:
            if best is None or _is_better(epoch.valid, best, monitor):
                best, num_worse = epoch.valid, 0
                continue
            num_worse += 1
            if num_worse == patience:
                num_worse, reductions = 0, reductions + 1
        return reductions


def _is_better(one: Metrics, other: Metrics, monitor: Monitor) -> bool:
    # Where all labels are equal every AUC is nan: the first epoch stays the best.
    return one.auc > other.auc if monitor == "auc" else one.logloss < other.logloss


@dataclass
class ResumePoint:
    """Where a training stands between two steps."""

    history: TrainingHistory = field(default_factory=TrainingHistory)  # the epochs that are done
    step: int = 0  # how many of the present epoch are done
    sum_logloss: float = 0.0  # over these steps
    num_rows: int = 0


def history_from_dict(document: dict) -> TrainingHistory:
    """What Training.as_dict gave."""
    epochs = [EpochResult(**{**epoch, "valid": Metrics(**epoch["valid"])}) for epoch in document["epochs"]]
    return TrainingHistory(
        epochs, document["best"], document["sent_bytes_per_step"], document.get("stopped", False)
    )
