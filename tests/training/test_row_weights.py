"""Weights of rows and of clicks in the training loss."""

from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch

from deepfm.distributed.collectives import SingleProcess
from deepfm.metrics.gauc import Groups
from deepfm.models.deepfm import DeepFM
from deepfm.training.evaluation import evaluate
from deepfm.training.loop import LoopConfig, TrainingLoop, forward_backward
from deepfm.training.optimizers.optimizer import Optimizer

CONFIG = LoopConfig(max_epochs=1, patience=1)
IDS = torch.tensor([[0, 1], [2, 3], [3, 1], [1, 0], [2, 2], [0, 3]])
LABELS = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
WEIGHTS = torch.tensor([3.0, 1.0, 2.0, 0.0, 1.0, 5.0])


@dataclass
class Batch:
    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor | None
    num_rows_all_ranks: int
    x: torch.Tensor | None = None


def batch(rows=slice(None), weights=WEIGHTS, num_rows_all_ranks=None):
    ids = IDS[rows]
    return Batch(
        ids, LABELS[rows], None if weights is None else weights[rows], num_rows_all_ranks or len(ids)
    )


def model():
    torch.manual_seed(0)
    return DeepFM([4, 4], 2, hidden_units=(3,))


def step(config, batch):
    """(sum of the logloss, gradients) of one step of a single process."""
    net = model()
    sum_logloss = forward_backward(net, config, batch).item()
    return sum_logloss, [weight.grad.to_dense() for weight in net.parameters()]


def assert_equal(one, other, rtol=1e-5):
    torch.testing.assert_close(one[0], other[0], rtol=rtol, atol=0)
    torch.testing.assert_close(one[1], other[1], rtol=rtol, atol=1e-7 if rtol else 0)


def test_integer_weights_equal_repeated_rows():
    repeated = batch(torch.arange(6).repeat_interleave(WEIGHTS.long()), weights=None)
    loss, gradients = step(replace(CONFIG, mean_weight=2.0), batch())  # 12 impressions in 6 rows
    assert_equal((2 * loss, gradients), step(CONFIG, repeated))


@pytest.mark.parametrize("weight", [0.1, 7.0, 1e-3])
def test_equal_weights_give_exactly_the_unweighted_gradients(weight):
    weights = torch.full((6,), weight)
    mean_weight = weights.sum(dtype=torch.float64).item() / 6
    assert_equal(
        step(replace(CONFIG, mean_weight=mean_weight), batch(weights=weights)),
        step(CONFIG, batch(weights=None)),
        0,
    )


def test_a_click_counts_as_often_as_positive_weight_but_not_in_the_logloss():
    loss, gradients = step(replace(CONFIG, positive_weight=3.0), batch(weights=None))
    weights = torch.where(LABELS == 1, 3.0, 1.0)
    assert_equal(
        (loss, gradients), (step(CONFIG, batch(weights=None))[0], step(CONFIG, batch(weights=weights))[1])
    )


def test_positive_weight_multiplies_weights_of_rows():
    _, gradients = step(replace(CONFIG, positive_weight=3.0), batch())
    weights = torch.where(LABELS == 1, 3 * WEIGHTS, WEIGHTS)
    assert_equal((0.0, gradients), (0.0, step(CONFIG, batch(weights=weights))[1]))


def test_two_ranks_get_the_weights_of_one(in_ranks):
    config, initial = replace(CONFIG, mean_weight=2.0, positive_weight=1.5), model()

    def train(collectives, rows):
        net = deepcopy(initial)  # ranks are threads, which share the random generator
        loop = TrainingLoop(net, Optimizer(net, 0.1), collectives, config)
        losses = [loop.step(batch(rows, num_rows_all_ranks=6)) for _ in range(3)]
        return losses, [weight.detach() for weight in net.parameters()]

    expected = train(SingleProcess(), slice(None))
    for result in in_ranks(2, lambda collectives: train(collectives, slice(collectives.rank, None, 2))):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_an_evaluation_uses_weights_in_all_metrics():
    ids, labels = IDS.repeat(5, 1), LABELS.repeat(5)
    weights = torch.arange(30) % 5.0
    ids[::3, 1], labels[::4] = 0, 1 - labels[::4]  # several logits and both labels in a group
    repeats = weights.long()
    weighted = Batch(ids, labels, weights, 30)
    repeated = Batch(ids.repeat_interleave(repeats, 0), labels.repeat_interleave(repeats), None, 30)
    one, other = (
        evaluate(model(), SingleProcess(), [rows], groups=Groups(0, 0)) for rows in (weighted, repeated)
    )
    equal = evaluate(model(), SingleProcess(), [replace(weighted, weights=None)], groups=Groups(0, 0))
    assert abs(one.gauc - equal.gauc) > 0.01
    for name in ("logloss", "auc", "gauc", "ctr", "ece"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5), name
