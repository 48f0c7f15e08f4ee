"""When a training stops: without progress, after its last epoch, or where the loss is no number."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from deepfm.distributed.collectives import SingleProcess
from deepfm.training.loop import LoopConfig, NotFiniteError, train


class Constant(nn.Module):
    """The same logit for every impression."""

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(1))

    def forward(self, ids, x):
        return self.logit.expand(len(ids))


class Script:
    """An optimizer that sets the logit of `Constant` to the next of a list at each step."""

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


#: The higher the logit, the better.
CLICK = Batch(torch.ones(1), 1)


def train_by(
    logits,
    settings,
    *,
    collectives=None,
    read_train=lambda epoch, num_done: [CLICK],
    on_epoch=lambda *_: None,
):
    net = Constant()
    return train(
        net,
        Script(net, logits),
        collectives or SingleProcess(),
        settings,
        read_train=read_train,
        read_valid=lambda: [CLICK],
        on_step=lambda *_: None,
        on_epoch=lambda epoch, is_best: on_epoch(net.logit.item(), is_best),
    )


@pytest.mark.parametrize(
    ("patience", "kept"),
    [
        (1, [True, True, False]),
        (2, [True, True, False, False]),
        (3, [True, True, False, False, True]),
    ],
)
def test_training_stops_after_patience_epochs_without_a_better_logloss_and_names_the_best(patience, kept):
    found, logits = [], [0.0, 2.0, 1.0, 2.0, 3.0]
    training = train_by(logits, LoopConfig(5, patience), on_epoch=lambda *epoch: found.append(epoch))
    assert found == list(zip(logits, kept, strict=False))
    assert training.best == (5 if patience == 3 else 2)
    assert [epoch.number for epoch in training.epochs] == list(range(1, len(kept) + 1))


def test_keeping_the_last_epoch_trains_all_and_asks_validation_for_nothing():
    kept = []
    settings = LoopConfig(max_epochs=4, patience=1, keep_last=True)
    training = train_by([3, 2, 4, 1], settings, on_epoch=lambda epoch, is_best: kept.append(is_best))
    assert (len(training.epochs), training.best, kept) == (4, 4, [True] * 4)


def test_training_stops_at_max_epochs():
    assert len(train_by([0.0, 1.0], LoopConfig(2, 5)).epochs) == 2


def test_each_epoch_reads_its_own_order():
    asked = []
    train_by(
        [0.0, 1.0, 2.0], LoopConfig(3, 3), read_train=lambda epoch, num_done: asked.append(epoch) or [CLICK]
    )
    assert asked == [1, 2, 3]


@pytest.mark.parametrize("logit", [math.nan, -math.inf])
def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(logit):
    told = r"^epoch 1, step 2: the loss is (nan|inf); lower training.learning_rate"
    with pytest.raises(NotFiniteError, match=told):
        train_by([logit, 0.0], LoopConfig(1, 1), read_train=lambda epoch, num_done: [CLICK, CLICK])


def test_a_last_step_that_breaks_the_weights_stops_at_the_validation():
    with pytest.raises(NotFiniteError, match=r"^epoch 2: the validation logloss is nan"):
        train_by([0.0, math.nan], LoopConfig(2, 2))


def test_a_bad_row_of_one_rank_stops_every_rank_at_the_same_step_and_all_name_it(in_ranks):
    good, bad = Batch(torch.ones(4), 8), Batch(torch.full((4,), math.nan), 8)

    def work(collectives):
        batches = [good, bad if collectives.rank == 1 else good]
        return train_by(
            [0.0, 0.0], LoopConfig(1, 1), collectives=collectives, read_train=lambda epoch, num_done: batches
        )

    found = in_ranks(2, work)
    assert [type(error) for error in found] == [NotFiniteError, NotFiniteError]
    assert all(str(error).startswith("epoch 1, step 2: the loss is nan (rank 1 of 2); ") for error in found)


def test_by_auc_the_best_epoch_is_the_one_that_orders_best():
    class Ordered(nn.Module):
        """Logits that a step makes larger, and in the other order below zero."""

        def __init__(self):
            super().__init__()
            self.logit = nn.Parameter(torch.zeros(1))

        def forward(self, ids, x):
            return self.logit * torch.tensor([4.0, -1.0])

    both = Batch(torch.tensor([1.0, 0.0]), 2)
    best = {}
    for monitor in ("logloss", "auc"):
        net = Ordered()
        training = train(
            net,
            Script(net, [0.5, -0.1, 9.0]),
            SingleProcess(),
            LoopConfig(3, 3, monitor=monitor),
            read_train=lambda *_: [both],
            read_valid=lambda: [both],
            on_step=lambda *_: None,
            on_epoch=lambda *_: None,
        )
        best[monitor] = training.best
    # The third epoch is surer of the same order: better in logloss, no better in AUC.
    assert best == {"logloss": 3, "auc": 1}
