"""The training loop: epochs of steps, validation after each, the best epoch's weights at the end."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from deepfm.errors import UserError
from deepfm.models.layers import penalties
from deepfm.training.ahead import ahead
from deepfm.training.exchange import Exchange, Plans, Wire
from deepfm.training.metrics import Metrics, Tally
from deepfm.training.optimizer import Optimizer
from deepfm.training.world import World


class Batch(Protocol):
    """One rank's share of a global batch."""

    ids: Tensor  # (B, F) int64
    x: Tensor | None  # (B, F) float32, the value of each feature; None where all are 1
    labels: Tensor  # (B,) float32
    num_rows_all_ranks: int  # of the global batch


@dataclass(frozen=True)
class LoopSettings:
    """How long to train and how strongly to hold back."""

    max_epochs: int
    patience: int  # epochs in a row without a better validation logloss before stopping
    w_reg: float = 0.0
    v_reg: float = 0.0
    logit_correction: float = (
        0.0  # added when measuring; not when training, on rows of which some were left out
    )
    bf16: bool = False  # matrix products of a step in bfloat16; weights, sums and evaluation are not
    wire: Wire = "fp32"  # see training.exchange
    keep_last: bool = False  # the last epoch's weights, and all epochs; else those of the best


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
    best: int = 0  # number of the epoch whose weights are kept: lowest validation logloss, or the last

    def as_dict(self) -> dict:
        return asdict(self)


class NotFiniteError(UserError):
    """The loss of a step or of validation is nan or infinite; raised on every rank at the same place."""


_REMEDY = "lower training.learning_rate in the model's YAML, and check the dataset if it happens at once"


#: Called on every rank after each step: epoch and step from 1, mean logloss of the epoch so far, samples/s.
OnStep = Callable[[int, int, float, float], None]
#: Called on every rank after each epoch; `is_best` says whether these weights are the ones to keep.
OnEpoch = Callable[[Epoch, bool], None]


def train(
    model: nn.Module,
    optimizer: Optimizer,
    world: World,
    settings: LoopSettings,
    *,
    read_train: Callable[[int], Iterable[Batch]],
    read_valid: Callable[[], Iterable[Batch]],
    on_step: OnStep,
    on_epoch: OnEpoch,
) -> Training:
    """Train until `max_epochs` or until `patience` epochs in a row brought no better validation logloss.

    With `keep_last` validation decides nothing: all epochs are trained.

    `read_train(epoch)` gives this rank's batches, as many on every rank, of rows that no other rank has.
    """
    # Ranks that were seeded alike start alike; a broadcast makes it certain.
    world.broadcast_([weight.data for weight in model.state_dict().values()], "weights")
    exchange = make_exchange(model, world, settings)
    training = Training()
    best_logloss = math.inf
    for number in range(1, settings.max_epochs + 1):
        started = time.monotonic()
        logloss, samples_per_s = train_epoch(
            model, optimizer, exchange, settings, number, read_train(number), on_step=on_step
        )
        average_buffers(model, world)
        valid = evaluate(model, world, read_valid(), settings.logit_correction)
        # The last step of an epoch can be the one that goes wrong.
        if not math.isfinite(valid.logloss):
            raise NotFiniteError(f"epoch {number}: the validation logloss is {valid.logloss}; {_REMEDY}")
        epoch = Epoch(number, logloss, valid, samples_per_s, time.monotonic() - started)
        training.epochs.append(epoch)
        is_best = settings.keep_last or valid.logloss < best_logloss
        if is_best:
            best_logloss, training.best = valid.logloss, number
        on_epoch(epoch, is_best)
        if number - training.best >= settings.patience:
            break
    return training


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    exchange: Exchange,
    settings: LoopSettings,
    number: int,
    batches: Iterable[Batch],
    *,
    on_step: OnStep,
) -> tuple[float, float]:
    """One pass over the training rows -> mean logloss, samples/s of all ranks together."""
    model.train()
    started, sum_logloss, num_rows = time.monotonic(), 0.0, 0
    planned = exchange.with_plans(batches)
    if exchange.has_others or next(model.parameters()).is_cuda:
        # Reading, grouping ids and meeting the other ranks over them would hold up the step. On a CPU by
        # itself there is nobody to wait for, and a thread more than cores makes those of a step wait.
        planned = ahead(planned)
    for step, (batch, plans) in enumerate(planned, start=1):
        sum_logloss += train_step(model, optimizer, exchange, settings, batch, plans)
        num_rows += batch.num_rows_all_ranks
        if not math.isfinite(sum_logloss):
            raise NotFiniteError(f"epoch {number}, step {step}: the loss is {sum_logloss}; {_REMEDY}")
        on_step(number, step, sum_logloss / num_rows, num_rows / (time.monotonic() - started))
    return sum_logloss / num_rows, num_rows / (time.monotonic() - started)


def make_exchange(model: nn.Module, world: World, settings: LoopSettings) -> Exchange:
    """The way to the other ranks that the settings describe."""
    l2 = penalties(model, settings.w_reg, settings.v_reg)
    return Exchange(model, world, wire=settings.wire, l2=l2)


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    exchange: Exchange,
    settings: LoopSettings,
    batch: Batch,
    plans: Plans | None = None,
) -> float:
    """One step -> logloss summed over the rows of all ranks, which makes all ranks see a bad one.

    `plans`: the exchange's for this batch, where they were made ahead.
    """
    optimizer.zero_grad()
    forward_backward(model, settings, batch, exchange.begin)
    sum_logloss = exchange.sum_gradients(plans or exchange.plan(batch.ids), batch.num_rows_all_ranks)
    optimizer.step()
    return sum_logloss


def forward_backward(
    model: nn.Module,
    settings: LoopSettings,
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


@torch.no_grad()
def average_buffers(model: nn.Module, world: World) -> None:
    """Batch norm's running statistics, which each rank kept of its own rows, become the mean over ranks."""
    if world.size == 1:
        return
    buffers = [value for value in model.buffers() if value.is_floating_point()]
    if buffers:
        world.sum_(buffers, "buffers")
        for value in buffers:
            value /= world.size


@torch.no_grad()
def evaluate(
    model: nn.Module, world: World, batches: Iterable[Batch], logit_correction: float = 0.0
) -> Metrics:
    """Metrics over the rows of all ranks; the same on every rank."""
    model.eval()
    tally: Tally | None = None
    for batch in batches:
        tally = tally or Tally(batch.ids.device)
        tally.add(model(batch.ids, batch.x) + logit_correction, batch.labels)
    tally = tally or Tally()
    world.sum_(tally.tensors(), "tally")
    return tally.metrics()
