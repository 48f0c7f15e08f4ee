"""State of a training: its epochs so far and the point to resume from."""

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from deepfm.dataset.shard import Segment
from deepfm.metrics.binary import Metrics

#: Validation metric that decides which epoch is better.
Monitor = Literal["logloss", "auc"]


@dataclass
class EpochResult:
    """Result of one pass over the training rows."""

    number: int  # from 1
    train_logloss: float  # mean over the steps of the epoch, while the weights change; after down-sampling
    valid: Metrics
    samples_per_s: float  # all ranks together, without validation
    seconds: float  # with validation
    num_steps: int = 0  # 0: not recorded by an earlier version

    def curves(self, prefix: str = "") -> dict[str, float]:
        """Metrics of this epoch by their MLflow names, each with `prefix`."""
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
    """Epochs of one training."""

    epochs: list[EpochResult] = field(default_factory=list)
    # Number of the epoch whose weights are kept: best on the validation rows, or the last. 0: none was better
    # than the weights that the training started from.
    best: int = 0
    # Bytes that a rank sent since its process started: dense gradients and rows of tables.
    sent_bytes_per_step: dict[str, int] = field(default_factory=dict)
    stopped: bool = False  # ended early by a callback, such as a pruner
    num_ranks: list[int] = field(default_factory=list)  # that trained it, in order; several if it was resumed
    # Validation metrics of the weights that it started from, if only better ones are kept.
    baseline: Metrics | None = None

    def as_dict(self) -> dict:
        """Convert to plain values; see history_from_dict."""
        return asdict(self)

    def is_improved_by(self, valid: Metrics, monitor: Monitor) -> bool:
        """Whether these validation metrics are better than those of the best epoch so far."""
        best = self.best_valid
        return best is None or _is_better(valid, best, monitor)

    @property
    def best_valid(self) -> Metrics | None:
        """Validation metrics of the weights to keep; None before the first epoch."""
        return self.epochs[self.best - 1].valid if self.best else self.baseline

    @property
    def seconds(self) -> float:
        """Time of all epochs, with validation."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def seconds_to_best(self) -> float:
        """Time up to the end of the best epoch."""
        return sum(epoch.seconds for epoch in self.epochs[: self.best])

    def num_reductions(self, monitor: Monitor, patience: int) -> int:
        """Count how often `patience` epochs in a row did not improve on the best epoch before them."""
        best, num_worse, reductions = self.baseline, 0, 0
        for epoch in self.epochs:
            if best is None or _is_better(epoch.valid, best, monitor):
                best, num_worse = epoch.valid, 0
                continue
            num_worse += 1
            if num_worse == patience:
                num_worse, reductions = 0, reductions + 1
        return reductions


def _is_better(one: Metrics, other: Metrics, monitor: Monitor) -> bool:
    # If all labels are equal, every AUC is NaN and the first epoch stays the best.
    return one.auc > other.auc if monitor == "auc" else one.logloss < other.logloss


@dataclass
class ResumePoint:
    """Position of a training between two steps."""

    history: TrainingHistory = field(default_factory=TrainingHistory)  # finished epochs
    step: int = 0  # finished steps of the current epoch
    sum_logloss: float = 0.0  # over these steps
    num_rows: int = 0  # over these steps, all ranks together
    segments: list[Segment] = field(default_factory=list)  # of these steps, those of other numbers of ranks

    @property
    def epoch(self) -> int:
        """Number of the current epoch, from 1."""
        return len(self.history.epochs) + 1

    @property
    def segment_steps(self) -> int:
        """Steps of the current epoch in `segments`."""
        return sum(segment.num_steps for segment in self.segments)

    def next_epoch(self) -> "ResumePoint":
        """Return the start of the epoch after those in the history."""
        return ResumePoint(self.history)

    def resumed_by(self, num_ranks: int) -> "ResumePoint":
        """Return the same position for `num_ranks` ranks."""
        earlier, segments = self.history.num_ranks, self.segments
        if num_ranks == earlier[-1]:
            return self
        if num_steps := self.step - self.segment_steps:
            segments = [*segments, Segment(earlier[-1], num_steps)]
        history = replace(self.history, num_ranks=[*earlier, num_ranks])
        return replace(self, history=history, segments=segments)


def history_from_dict(document: dict) -> TrainingHistory:
    """Rebuild a history from the result of TrainingHistory.as_dict."""
    epochs = [EpochResult(**{**epoch, "valid": Metrics(**epoch["valid"])}) for epoch in document["epochs"]]
    baseline = document.get("baseline")
    return TrainingHistory(
        epochs,
        document["best"],
        document["sent_bytes_per_step"],
        document.get("stopped", False),
        document.get("num_ranks", []),
        baseline and Metrics(**baseline),
    )
