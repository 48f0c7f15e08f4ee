"""Stopping of a training: without improvement, after its last epoch, or on a NaN loss."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from deepfm.distributed.collectives import SingleProcess
from deepfm.training.epoch import NotFiniteError
from deepfm.training.loop import Callbacks, LoopConfig, TrainingData, TrainingLoop


class Constant(nn.Module):
    """Model with the same logit for all impressions."""

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(1))

    def forward(self, ids, x):
        return self.logit.expand(len(ids))


class Script:
    """Optimizer that sets the logit of `Constant` to the next of a list in each step."""

    sparse = ()

    def __init__(self, net, logits):
        self.dense, self._logits = [net.logit], iter(logits)

    def zero_grad(self):
        pass

    def step(self):
        self.dense[0].data.fill_(next(self._logits))


@dataclass
class Batch:
    """Impressions of one field."""

    labels: torch.Tensor
    num_rows_all_ranks: int
    x = None

    @property
    def ids(self):
        return torch.zeros(len(self.labels), 1, dtype=torch.int64)


#: A higher logit has a lower logloss.
CLICK = Batch(torch.ones(1), 1)


def train_with(
    logits,
    settings,
    *,
    collectives=None,
    read_train=lambda position: [CLICK],
    on_epoch=lambda *_: None,
):
    net = Constant()

    class Report(Callbacks):
        def on_epoch(self, epoch, is_best):
            on_epoch(net.logit.item(), is_best)

    loop = TrainingLoop(net, Script(net, logits), collectives or SingleProcess(), settings, Report())
    return loop.run(TrainingData(read_train, lambda: [CLICK]))


@pytest.mark.parametrize(
    ("patience", "kept"),
    [
        (1, [True, True, False]),
        (2, [True, True, False, False]),
        (3, [True, True, False, False, True]),
    ],
)
def test_training_stops_after_patience_epochs_without_a_better_logloss(patience, kept):
    epochs, logits = [], [0.0, 2.0, 1.0, 2.0, 3.0]
    training = train_with(logits, LoopConfig(5, patience), on_epoch=lambda *epoch: epochs.append(epoch))
    assert epochs == list(zip(logits, kept, strict=False))
    assert training.best == (5 if patience == 3 else 2)
    assert [epoch.number for epoch in training.epochs] == list(range(1, len(kept) + 1))


def test_keeping_the_last_epoch_ignores_validation_metrics():
    kept = []
    settings = LoopConfig(max_epochs=4, patience=1, keep_last=True)
    training = train_with([3, 2, 4, 1], settings, on_epoch=lambda epoch, is_best: kept.append(is_best))
    assert (len(training.epochs), training.best, kept) == (4, 4, [True] * 4)


def test_training_stops_at_max_epochs():
    assert len(train_with([0.0, 1.0], LoopConfig(2, 5)).epochs) == 2


def test_each_epoch_reads_its_rows_in_another_order():
    epochs = []
    train_with(
        [0.0, 1.0, 2.0],
        LoopConfig(3, 3),
        read_train=lambda position: epochs.append(position.epoch) or [CLICK],
    )
    assert epochs == [1, 2, 3]


@pytest.mark.parametrize("logit", [math.nan, -math.inf])
def test_a_nan_loss_stops_with_epoch_and_step(logit):
    message = r"^epoch 1, step 2: the loss is (nan|inf); lower training.learning_rate"
    with pytest.raises(NotFiniteError, match=message):
        train_with([logit, 0.0], LoopConfig(1, 1), read_train=lambda position: [CLICK, CLICK])


def test_nan_weights_after_the_last_step_stop_at_the_validation():
    with pytest.raises(NotFiniteError, match=r"^epoch 2: the validation logloss is nan"):
        train_with([0.0, math.nan], LoopConfig(2, 2))


def test_a_nan_on_one_rank_stops_all_ranks_at_the_same_step(in_ranks):
    good, bad = Batch(torch.ones(4), 8), Batch(torch.full((4,), math.nan), 8)

    def work(collectives):
        batches = [good, bad if collectives.rank == 1 else good]
        return train_with(
            [0.0, 0.0], LoopConfig(1, 1), collectives=collectives, read_train=lambda position: batches
        )

    errors = in_ranks(2, work)
    assert [type(error) for error in errors] == [NotFiniteError, NotFiniteError]
    assert all(str(error).startswith("epoch 1, step 2: the loss is nan (rank 1 of 2); ") for error in errors)


def test_monitoring_auc_chooses_the_epoch_with_the_best_ranking():
    class Ordered(nn.Module):
        """Logits whose order depends on the sign of one weight."""

        def __init__(self):
            super().__init__()
            self.logit = nn.Parameter(torch.zeros(1))

        def forward(self, ids, x):
            return self.logit * torch.tensor([4.0, -1.0])

    both = Batch(torch.tensor([1.0, 0.0]), 2)
    best = {}
    for monitor in ("logloss", "auc"):
        net = Ordered()
        script, config = Script(net, [0.5, -0.1, 9.0]), LoopConfig(3, 3, monitor=monitor)
        data = TrainingData(lambda *_: [both], lambda: [both])
        best[monitor] = TrainingLoop(net, script, SingleProcess(), config).run(data).best
    # The third epoch has the same order with larger logits: better in logloss, equal in AUC.
    assert best == {"logloss": 3, "auc": 1}
