"""The training loop: epochs of steps, validation after each, the best epoch's weights at the end."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from deepfm.distributed.collectives import Collectives
from deepfm.errors import UserError
from deepfm.metrics.gauc import Groups
from deepfm.models.layers import penalties
from deepfm.training.batch import Batch
from deepfm.training.evaluation import average_buffers, evaluate
from deepfm.training.gradient_sync import GradientCompression, GradientSynchronizer, RowExchanges
from deepfm.training.optimizer import Optimizer
from deepfm.training.prefetch import prefetch
from deepfm.training.schedule import Schedule
from deepfm.training.state import EpochResult, Monitor, ResumePoint, TrainingHistory


@dataclass(frozen=True)
class LoopConfig:
    """How long to train and how strongly to hold back."""

    max_epochs: int
    patience: int  # epochs in a row without a better validation logloss before stopping
    w_reg: float = 0.0
    v_reg: float = 0.0
    logit_correction: float = (
        0.0  # added when measuring; not when training, on rows of which some were left out
    )
    bf16: bool = False  # matrix products of a step in bfloat16; weights, sums and evaluation are not
    gradient_compression: GradientCompression = "fp32"  # see training.exchange
    monitor: Monitor = "logloss"  # of the validation rows: which epoch is the best
    schedule: Schedule | None = None  # None: the learning rate stays as it is
    steps_per_epoch: int = 0  # for the schedule
    plateau_patience: int = 1  # for the schedule: epochs in a row without a better one before a reduction
    seed: int = 0  # of what units drop out, with the rank, epoch and step
    checkpoint_every_n_steps: int = 0  # and after every epoch; 0: only then
    checkpoint_every_s: float = 0.0  # and so many seconds after the last one, by rank 0's clock; 0: not
    groups: Groups | None = None  # of the GAUC; None: it is not measured
    keep_last: bool = False  # the last epoch's weights, and all epochs; else those of the best


class NotFiniteError(UserError):
    """The loss of a step or of validation is nan or infinite; raised on every rank at the same place."""


_REMEDY = "lower training.learning_rate in the model's YAML, and check the dataset if it happens at once"


#: Called on every rank after each step: epoch and step from 1, mean logloss of the epoch so far, samples/s.
OnStep = Callable[[int, int, float, float], None]
#: Called on every rank where training could go on from later.
OnCheckpoint = Callable[[ResumePoint], None]
#: Called on every rank after each epoch; `is_best` says whether these weights are the ones to keep.
OnEpoch = Callable[[EpochResult, bool], None]
#: Called on every rank after each epoch but the last: whether another is worth it, the same on every rank.
GoOn = Callable[[EpochResult], bool]


def train(
    model: nn.Module,
    optimizer: Optimizer,
    collectives: Collectives,
    settings: LoopConfig,
    *,
    read_train: Callable[[int, int], Iterable[Batch]],
    read_valid: Callable[[], Iterable[Batch]],
    on_step: OnStep,
    on_epoch: OnEpoch,
    on_checkpoint: OnCheckpoint = lambda position: None,
    go_on: GoOn = lambda epoch: True,
    describe: Callable[[Batch], str] = lambda batch: "",
    position: ResumePoint | None = None,
) -> TrainingHistory:
    """Train until `max_epochs` or until `patience` epochs in a row were no better on the validation rows.

    With `keep_last` validation decides nothing: all epochs are trained.

    `read_train(epoch, num_done)` gives this rank's batches after the first `num_done` of an epoch, as many on
    every rank, of rows that no other rank has. `describe`: where the rows of a batch come from and what they
    hold, told of one whose loss is no number. `position`: to go on from, with the weights and the optimizer
    of then.
    """
    # Ranks that were seeded alike start alike; a broadcast makes it certain. Buffers are each rank's own.
    collectives.broadcast_([weight.data for weight in model.parameters()], "weights")
    synchronizer = build_synchronizer(model, collectives, settings)
    position = position or ResumePoint()
    history = position.history
    while not (history.stopped or _is_over(history, settings)):
        started, number = time.monotonic(), len(history.epochs) + 1
        logloss, samples_per_s = train_epoch(
            model,
            optimizer,
            synchronizer,
            settings,
            read_train(number, position.step),
            on_step=on_step,
            on_checkpoint=on_checkpoint,
            describe=describe,
            position=position,
        )
        average_buffers(model, collectives)
        valid = evaluate(model, collectives, read_valid(), settings.logit_correction, settings.groups)
        # The last step of an epoch can be the one that goes wrong.
        if not math.isfinite(valid.logloss):
            raise NotFiniteError(f"epoch {number}: the validation logloss is {valid.logloss}; {_REMEDY}")
        epoch = EpochResult(number, logloss, valid, samples_per_s, time.monotonic() - started)
        history.epochs.append(epoch)
        is_best = settings.keep_last or history.is_improved_by(valid, settings.monitor)
        if is_best:
            history.best = number
        on_epoch(epoch, is_best)
        position = ResumePoint(history)
        on_checkpoint(position)
        history.stopped = not (_is_over(history, settings) or go_on(epoch))
    history.sent_bytes_per_step = synchronizer.sent_bytes_per_step
    return history


def _is_over(history: TrainingHistory, settings: LoopConfig) -> bool:
    num_epochs = len(history.epochs)
    out_of_patience = num_epochs > 0 and num_epochs - history.best >= settings.patience
    return num_epochs == settings.max_epochs or out_of_patience


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    synchronizer: GradientSynchronizer,
    settings: LoopConfig,
    batches: Iterable[Batch],
    *,
    on_step: OnStep,
    on_checkpoint: OnCheckpoint = lambda position: None,
    describe: Callable[[Batch], str] = lambda batch: "",
    position: ResumePoint | None = None,
) -> tuple[float, float]:
    """The rest of a pass over the training rows -> mean logloss of all, samples/s of all ranks together."""
    model.train()
    position = position or ResumePoint()
    number, first = len(position.history.epochs) + 1, position.step + 1
    started, sum_logloss, num_rows = time.monotonic(), position.sum_logloss, position.num_rows
    due = started + (settings.checkpoint_every_s or math.inf)
    num_reductions = position.history.num_reductions(settings.monitor, settings.plateau_patience)
    prepared = synchronizer.with_exchanges(batches)
    if synchronizer.has_others or next(model.parameters()).is_cuda:
        # Reading, grouping ids and meeting the other ranks over them would hold up the step. On a CPU by
        # itself there is nobody to wait for, and a thread more than cores makes those of a step wait.
        prepared = prefetch(prepared)
    for step, (batch, exchanges) in enumerate(prepared, start=first):
        # Of nothing that came before, so that a training which goes on drops out what it would have.
        torch.manual_seed(_seed_of(settings.seed, synchronizer.rank, number, step))
        if settings.schedule is not None:
            step_of_all = (number - 1) * settings.steps_per_epoch + step
            optimizer.set_rate(settings.schedule.factor(step_of_all, num_reductions))
        synchronizer.wants_checkpoint = time.monotonic() >= due
        sum_logloss += train_step(model, optimizer, synchronizer, settings, batch, exchanges)
        num_rows += batch.num_rows_all_ranks
        if not math.isfinite(sum_logloss):
            where = f"epoch {number}, step {step}: the loss is {sum_logloss}"
            where += synchronizer.describe_non_finite_ranks()
            rows = "" if synchronizer.local_loss_is_finite else describe(batch)
            raise NotFiniteError(f"{where}; {rows}{'; ' * bool(rows)}{_REMEDY}")
        samples_per_s = (num_rows - position.num_rows) / (time.monotonic() - started)
        on_step(number, step, sum_logloss / num_rows, samples_per_s)
        every = settings.checkpoint_every_n_steps
        if synchronizer.wants_checkpoint or (every and step % every == 0):
            on_checkpoint(ResumePoint(position.history, step, sum_logloss, num_rows))
            due = time.monotonic() + (settings.checkpoint_every_s or math.inf)
    return sum_logloss / num_rows, (num_rows - position.num_rows) / (time.monotonic() - started)


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def build_synchronizer(
    model: nn.Module, collectives: Collectives, settings: LoopConfig
) -> GradientSynchronizer:
    """The way to the other ranks that the settings describe."""
    l2 = penalties(model, settings.w_reg, settings.v_reg)
    return GradientSynchronizer(model, collectives, gradient_compression=settings.gradient_compression, l2=l2)


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    synchronizer: GradientSynchronizer,
    settings: LoopConfig,
    batch: Batch,
    exchanges: RowExchanges | None = None,
) -> float:
    """One step -> logloss summed over the rows of all ranks, which makes all ranks see a bad one.

    `plans`: the exchange's for this batch, where they were made ahead.
    """
    optimizer.zero_grad()
    forward_backward(model, settings, batch, synchronizer.start)
    sum_logloss = synchronizer.synchronize(
        exchanges or synchronizer.plan_exchange(batch.ids), batch.num_rows_all_ranks
    )
    optimizer.step()
    return sum_logloss


def forward_backward(
    model: nn.Module,
    settings: LoopConfig,
    batch: Batch,
    on_loss: Callable[[Tensor], None] = lambda sum_logloss: None,
) -> Tensor:
    """Gradients of this rank's part of the global batch's mean loss -> (1,) logloss summed over its own rows.

    `on_loss` is given the latter before the gradients are computed.

    Each rank divides by the rows of ALL ranks, so the sum of their gradients is the gradient of the global
    mean, also where their numbers of rows differ. Penalties are the exchange's: it has each row once.
    """
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=settings.bf16):
        logits = model(batch.ids, batch.x)
    sum_logloss = binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum")
    of_own_rows = sum_logloss.detach().double().reshape(1)
    on_loss(of_own_rows)
    (sum_logloss / batch.num_rows_all_ranks).backward()
    return of_own_rows
