"""Learning rate schedules."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Factor of the learning rate in each step.

    It rises linearly over `warmup_steps`, then stays constant or falls to zero along half a cosine until step
    `num_steps` (I. Loshchilov and F. Hutter, "SGDR", 2017, eq. 5, without restarts). Kind "plateau"
    multiplies it by
    `reduction` for each plateau (see TrainingHistory.num_reductions). More workers make a larger global
    batch;
    `scale` is the factor chosen for it (P. Goyal et al. 2017). Scaling often costs AUC with Adam, so it is
    off by default.
    """

    kind: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_steps: int = 0
    num_steps: int = 0  # of all epochs, for cosine
    scale: float = 1.0  # see `scale_of`
    reduction: float = 0.1  # for plateau

    def factor(self, step: float, num_reductions: int = 0) -> float:
        """Factor of a step, counted from 1 over all epochs, after `num_reductions` plateaus.

        A step may be fractional after the number of workers has changed, see EpochSteps.
        """
        factor = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        # The last step has factor 0: if it were the only one, nothing would be learned.
        if self.kind == "cosine" and step > self.warmup_steps and self.num_steps > 1:
            share = (step - self.warmup_steps) / max(self.num_steps - self.warmup_steps, 1)
            factor = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        if self.kind == "plateau":
            factor *= self.reduction**num_reductions
        return self.scale * factor


def scale_of(rule: Literal["none", "sqrt", "linear"], num_workers: int) -> float:
    """Factor of the learning rate for a global batch that is `num_workers` times as large."""
    return {"none": 1.0, "sqrt": math.sqrt(num_workers), "linear": float(num_workers)}[rule]


@dataclass(frozen=True)
class ResumedEpoch:
    """Epoch in which ranks start or resume a training."""

    number: int = 1
    num_steps_before: int = 0  # in the epochs before it
    num_done: int = 0  # its steps with other numbers of ranks
    share_done: float = 0.0  # of its rows, read in those steps
    num_left: int = 0  # its steps after those


@dataclass(frozen=True)
class EpochSteps:
    """Steps of each epoch from the one in which the present ranks start or resume a training.

    A schedule counts in steps of the number of ranks that started the training, so that it continues where
    it was if another number of ranks resumes it.
    """

    per_epoch: int = 0
    scheduled_per_epoch: int | None = None  # with the ranks that started the training; None: `per_epoch`
    first: ResumedEpoch | None = None  # None: they start the training

    @property
    def scheduled(self) -> int:
        """Steps of an epoch by which a schedule counts."""
        return self.per_epoch if self.scheduled_per_epoch is None else self.scheduled_per_epoch

    @property
    def _first(self) -> ResumedEpoch:
        return self.first or ResumedEpoch(num_left=self.per_epoch)

    def in_epoch(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        return self._first.num_done + self._first.num_left if epoch == self._first.number else self.per_epoch

    def before(self, epoch: int) -> int:
        """Return the number of steps of all epochs before one."""
        num_later = epoch - self._first.number - 1
        first_steps = self.in_epoch(self._first.number) + num_later * self.per_epoch if num_later >= 0 else 0
        return self._first.num_steps_before + first_steps

    def equal_steps(self, epoch: int, step: int) -> float:
        """Return the rows of an epoch up to a step, in global batches of the present ranks."""
        if epoch != self._first.number:
            return step
        share = self._first.share_done
        return step - self._first.num_done + share / (1 - share) * self._first.num_left

    def schedule_step(self, epoch: int, step: int) -> float:
        """Return the step of the schedule for a step of an epoch; both count from 1."""
        num_left, share_left = self.per_epoch, 1.0
        if epoch == self._first.number:
            num_left, share_left = self._first.num_left, 1 - self._first.share_done
        per_step = self.scheduled / (num_left / share_left)
        return (epoch - 1) * self.scheduled + per_step * self.equal_steps(epoch, step)
