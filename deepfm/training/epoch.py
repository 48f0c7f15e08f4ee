"""A running epoch: its started steps, and loss and speed of those that have finished."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from deepfm.errors import UserError
from deepfm.training.batch import Batch
from deepfm.training.gradient_sync import GradientSynchronizer, RowExchanges
from deepfm.training.state import ResumePoint
from deepfm.training.step_loss import StepLoss

REMEDY = "lower training.learning_rate in the model YAML; check the dataset if it happens at once"
#: Steps that may be in flight on a GPU while the next is started. The same on all ranks, so that all raise an
#: error, and write a checkpoint, at the same step.
_GPU_STEPS_IN_FLIGHT = 2


class NotFiniteError(UserError):
    """The loss of a step or of a validation is NaN or infinite; raised on every rank at the same step."""


@dataclass(frozen=True)
class StartedStep:
    """A started step; it keeps the tensors of its batch until it has finished (see prefetch)."""

    number: int  # from 1 in its epoch
    batch: Batch
    exchanges: RowExchanges
    loss: StepLoss


class RunningEpoch:
    """Loss and speed of an epoch, over the steps that have finished.

    On a CPU a step has finished when it is added, on a GPU a few steps later.
    """

    def __init__(
        self,
        position: ResumePoint,
        synchronizer: GradientSynchronizer,
        device: torch.device,
        on_step: Callable[[int, int, float, float], None],
        describe: Callable[[Any], str],
    ):
        """Continue at `position`; `on_step` and `describe`: see Callbacks and TrainingData in loop."""
        self.number = position.epoch
        self.sum_logloss, self.num_rows, self.samples_per_s = position.sum_logloss, position.num_rows, 0.0
        self.wants_checkpoint = False  # whether rank 0 asked for one in a step that has finished
        self._position, self.num_steps = position, position.step
        self._synchronizer, self._on_step, self._describe = synchronizer, on_step, describe
        self._steps: deque[StartedStep] = deque()
        self._max_in_flight = _GPU_STEPS_IN_FLIGHT if device.type == "cuda" else 0
        self._started = time.monotonic()

    def add(self, step: StartedStep) -> None:
        """Add a started step, and finish those that should have finished by now."""
        self._steps.append(step)
        self.finish_steps(self._max_in_flight)

    def finish_steps(self, num_in_flight: int = 0) -> None:
        """Wait until at most `num_in_flight` steps are in flight; raise NotFiniteError at a bad loss."""
        while len(self._steps) > num_in_flight:
            self._finish(self._steps.popleft())

    def resume_point(self) -> ResumePoint:
        """Finish all steps and return the position after the last one."""
        self.finish_steps()
        self.wants_checkpoint = False
        return replace(
            self._position, step=self.num_steps, sum_logloss=self.sum_logloss, num_rows=self.num_rows
        )

    def _finish(self, step: StartedStep) -> None:
        self.sum_logloss += step.loss.sum_logloss
        self.num_rows += step.batch.num_rows_all_ranks
        self.num_steps = step.number
        if not math.isfinite(self.sum_logloss):
            raise self._not_finite(step)
        self.wants_checkpoint |= step.loss.wants_checkpoint
        self.samples_per_s = (self.num_rows - self._position.num_rows) / (time.monotonic() - self._started)
        self._on_step(self.number, step.number, self.sum_logloss / self.num_rows, self.samples_per_s)

    def _not_finite(self, step: StartedStep) -> NotFiniteError:
        message = f"epoch {self.number}, step {step.number}: the loss is {self.sum_logloss}"
        message += self._synchronizer.describe_non_finite_ranks(step.loss)
        source = "" if step.loss.local_is_finite else self._describe(step.batch)
        return NotFiniteError("; ".join(part for part in (message, source, REMEDY) if part))
