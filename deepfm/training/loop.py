"""The training loop: epochs of steps, validation after each epoch, callbacks in between."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from deepfm.distributed.collectives import Collectives
from deepfm.metrics.gauc import Groups
from deepfm.models.layers import penalties
from deepfm.training.batch import Batch, batch_weights
from deepfm.training.epoch import REMEDY, NotFiniteError, RunningEpoch, StartedStep
from deepfm.training.evaluation import average_buffers, evaluate
from deepfm.training.gradient_sync import GradientCompression, GradientSynchronizer, RowExchanges
from deepfm.training.optimizers.optimizer import Optimizer
from deepfm.training.prefetch import prefetch
from deepfm.training.schedule import EpochSteps, Schedule
from deepfm.training.state import EpochResult, Monitor, ResumePoint, TrainingHistory
from deepfm.training.step_loss import StepLoss


@dataclass(frozen=True)
class LoopConfig:
    """Training loop configuration: duration, regularization, precision, checkpointing."""

    max_epochs: int
    patience: int  # stop after so many epochs in a row without a better validation metric
    w_reg: float = 0.0  # L2 penalty of the first-order weights of a batch's rows
    v_reg: float = 0.0  # L2 penalty of their embeddings
    # Added to the logits in evaluation, never in training: it corrects for down-sampled negatives.
    logit_correction: float = 0.0
    bf16: bool = False  # bfloat16 matrix products in training; weights, sums and evaluation stay float32
    gradient_compression: GradientCompression = "fp32"  # of embedding rows between ranks
    monitor: Monitor = "logloss"  # validation metric that chooses the best epoch
    schedule: Schedule | None = None  # None: constant learning rate
    steps: EpochSteps = field(default_factory=EpochSteps)  # for the schedule
    plateau_patience: int = 1  # for the schedule: epochs without improvement before a reduction
    seed: int = 0  # of dropout, combined with rank, epoch and step
    checkpoint_every_n_steps: int = 0  # in addition to one after every epoch; 0: none within an epoch
    checkpoint_every_s: float = 0.0  # the same in seconds, by the clock of rank 0; 0: none
    groups: Groups | None = None  # of the GAUC; None: not computed
    keep_last: bool = False  # keep the weights of the last epoch and train all epochs
    mean_weight: float = 1.0  # of the training rows; the loss is divided by it
    positive_weight: float = 1.0  # how many times a click counts in the training loss


@dataclass(frozen=True)
class TrainingData:
    """Batches of one rank.

    `read_train(position)` yields the batches of the current epoch after its finished steps. Every rank yields
    the same number of batches, and no row is read by two ranks: a rank with an extra batch would wait forever
    in the all-reduce.
    """

    read_train: Callable[[ResumePoint], Iterable[Batch]]
    read_valid: Callable[[], Iterable[Batch]]
    describe: Callable[[Any], str] = lambda batch: ""  # source files and values, for error messages


class Callbacks:
    """Hooks of the loop, called on every rank; the defaults do nothing."""

    def on_step(self, epoch: int, step: int, logloss: float, samples_per_s: float) -> None:
        """Handle a finished step; both count from 1, `logloss` is the mean of the epoch so far."""

    def on_epoch(self, epoch: EpochResult, is_best: bool) -> None:
        """Handle a finished epoch; `is_best`: its weights are the ones to keep."""

    def on_checkpoint(self, position: ResumePoint) -> None:
        """Save what is needed to resume at `position`."""

    def should_continue(self, epoch: EpochResult) -> bool:
        """Decide after each epoch except the last whether to train another; the same on every rank."""
        return True


class TrainingLoop:
    """Trains one model on one rank, in step with the other ranks."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        collectives: Collectives,
        config: LoopConfig,
        callbacks: Callbacks | None = None,
    ):
        self.model, self.optimizer, self.config = model, optimizer, config
        l2 = penalties(model, config.w_reg, config.v_reg)
        self.synchronizer = GradientSynchronizer(
            model, collectives, gradient_compression=config.gradient_compression, l2=l2
        )
        self._collectives, self._callbacks = collectives, callbacks or Callbacks()

    def run(self, data: TrainingData, position: ResumePoint | None = None) -> TrainingHistory:
        """Train up to `max_epochs`, or until `patience` epochs in a row did not improve the validation.

        With `keep_last` all epochs are trained. `position`: where to resume; model and optimizer must hold
        the state of that position.
        """
        # Equal seeds give equal weights on all ranks; the broadcast guarantees it. Buffers differ by rank.
        self._collectives.broadcast_([weight.data for weight in self.model.parameters()], "weights")
        position = position or ResumePoint()
        history = position.history
        while not (history.stopped or self._is_over(history)):
            epoch = self._train_and_validate(data, position)
            history.epochs.append(epoch)
            is_best = self.config.keep_last or history.is_improved_by(epoch.valid, self.config.monitor)
            if is_best:
                history.best = epoch.number
            self._callbacks.on_epoch(epoch, is_best)
            position = position.next_epoch()
            self._callbacks.on_checkpoint(position)
            history.stopped = not (self._is_over(history) or self._callbacks.should_continue(epoch))
        history.sent_bytes_per_step = self.synchronizer.sent_bytes_per_step
        return history

    def _is_over(self, history: TrainingHistory) -> bool:
        num_epochs = len(history.epochs)
        out_of_patience = num_epochs > 0 and num_epochs - history.best >= self.config.patience
        return num_epochs == self.config.max_epochs or out_of_patience

    def _train_and_validate(self, data: TrainingData, position: ResumePoint) -> EpochResult:
        started, number = time.monotonic(), position.epoch
        batches = data.read_train(position)
        logloss, samples_per_s, num_steps = self.run_epoch(batches, position, data.describe)
        average_buffers(self.model, self._collectives)
        config = self.config
        valid = evaluate(
            self.model, self._collectives, data.read_valid(), config.logit_correction, config.groups
        )
        # The last step of an epoch can be the one that makes the weights NaN.
        if not math.isfinite(valid.logloss):
            raise NotFiniteError(f"epoch {number}: the validation logloss is {valid.logloss}; {REMEDY}")
        seconds = time.monotonic() - started
        return EpochResult(number, logloss, valid, samples_per_s, seconds, num_steps)

    def run_epoch(
        self,
        batches: Iterable[Batch],
        position: ResumePoint | None = None,
        describe: Callable[[Any], str] = lambda batch: "",
    ) -> tuple[float, float, int]:
        """Train on the remaining batches of an epoch.

        Returns the mean logloss of the whole epoch, the samples per second of all ranks together, and the
        number of steps of the whole epoch.
        """
        self.model.train()
        position = position or ResumePoint()
        config, synchronizer = self.config, self.synchronizer
        epoch = RunningEpoch(position, synchronizer, self.device, self._callbacks.on_step, describe)
        checkpoint_at = time.monotonic() + (config.checkpoint_every_s or math.inf)
        num_reductions = position.history.num_reductions(config.monitor, config.plateau_patience)
        for step, (batch, exchanges) in enumerate(self._prepared(batches), start=position.step + 1):
            # The seed depends on nothing before this step, so a resumed training drops out the same units.
            torch.manual_seed(_seed_of(config.seed, synchronizer.rank, epoch.number, step))
            if config.schedule is not None:
                schedule_step = config.steps.schedule_step(epoch.number, step)
                self.optimizer.set_rate(config.schedule.factor(schedule_step, num_reductions))
            synchronizer.wants_checkpoint = time.monotonic() >= checkpoint_at
            epoch.add(StartedStep(step, batch, exchanges, self.start_step(batch, exchanges)))
            every = config.checkpoint_every_n_steps
            if epoch.wants_checkpoint or (every and step % every == 0):
                self._callbacks.on_checkpoint(epoch.resume_point())
                checkpoint_at = time.monotonic() + (config.checkpoint_every_s or math.inf)
        epoch.finish_steps()
        return epoch.sum_logloss / epoch.num_rows, epoch.samples_per_s, epoch.num_steps

    def step(self, batch: Batch, exchanges: RowExchanges | None = None) -> float:
        """Take one step and return the logloss summed over the rows of all ranks; see `start_step`."""
        return self.start_step(batch, exchanges).sum_logloss

    def start_step(self, batch: Batch, exchanges: RowExchanges | None = None) -> StepLoss:
        """Take one step; on a GPU it is started, and its loss waits for it.

        The loss is the same on every rank, so a NaN of one rank is seen by all. `exchanges`: those of this
        batch if they were prepared ahead.
        """
        self.optimizer.zero_grad()
        forward_backward(self.model, self.config, batch, self.synchronizer.start)
        exchanges = exchanges or self.synchronizer.plan_exchange(batch.ids)
        loss = self.synchronizer.synchronize(exchanges, batch.num_rows_all_ranks)
        self.optimizer.step()
        return loss

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def _prepared(self, batches: Iterable[Batch]) -> Iterable[tuple[Batch, RowExchanges]]:
        prepared = self.synchronizer.with_exchanges(batches)
        if self.device.type == "cuda":
            # Grouping ids waits for the device: on the stream of the steps it would wait for them too.
            return prefetch(prepared, stream=torch.cuda.Stream(self.device))
        if self.synchronizer.has_others:
            # Reading, grouping ids and exchanging them with other ranks would delay the step. A single
            # process on a CPU has nothing to wait for, and one thread more than cores would slow its steps.
            return prefetch(prepared)
        return prepared


def forward_backward(
    model: nn.Module,
    config: LoopConfig,
    batch: Batch,
    on_loss: Callable[[Tensor], None] = lambda sum_logloss: None,
) -> Tensor:
    """Compute this rank's part of the gradients of the global mean loss; return its summed logloss, (1,).

    Each rank divides by the number of rows of ALL ranks, so the sum of their gradients is the gradient of the
    global mean even if ranks have different numbers of rows. Weights of rows are divided by their mean, which
    keeps the scale of the loss. `on_loss` receives the summed logloss, without `positive_weight`, before the
    backward pass. Penalties are added by the synchronizer, which has each row once.
    """
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=config.bf16):
        logits = model(batch.ids, batch.x)
    weights = batch_weights(batch)
    if weights is not None:
        # In float64, so that weights that are all equal become exactly 1.
        weights = (weights.double() / config.mean_weight).to(batch.labels.dtype)
    loss = sum_logloss = binary_cross_entropy_with_logits(logits, batch.labels, weights, reduction="sum")
    local_logloss = sum_logloss.detach().double().reshape(1)
    on_loss(local_logloss)
    if config.positive_weight != 1:
        click_weights = torch.where(batch.labels > 0.5, config.positive_weight, 1.0).to(batch.labels.dtype)
        weights = click_weights if weights is None else click_weights * weights
        loss = binary_cross_entropy_with_logits(logits, batch.labels, weights, reduction="sum")
    (loss / batch.num_rows_all_ranks).backward()
    return local_logloss


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
