"""Training loop on one rank, and on ranks that are threads."""

import copy
import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from deepfm.distributed.collectives import SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.training.evaluation import average_buffers, evaluate
from deepfm.training.loop import Callbacks, LoopConfig, TrainingData, TrainingLoop, forward_backward
from deepfm.training.optimizers.optimizer import Optimizer
from deepfm.training.schedule import EpochSteps, Schedule
from deepfm.training.state import ResumePoint

ONE_EPOCH = LoopConfig(max_epochs=1, patience=1)


@dataclass
class Batch:
    ids: torch.Tensor
    labels: torch.Tensor
    num_rows_all_ranks: int
    x: torch.Tensor | None = None


def rows(num_rows, seed=0):
    """Ids of two fields and labels; the label is 1 if the sum of ids is odd."""
    ids = torch.randint(0, 4, (num_rows, 2), generator=torch.Generator().manual_seed(seed))
    return ids, (ids.sum(dim=1) % 2).double()


def to_batch(ids, labels, num_rows_all_ranks=None):
    return Batch(ids, labels, num_rows_all_ranks or len(ids))


def model(seed=0, **deep):
    """A DeepFM in float64, so that sums in another order are equal to 1e-12."""
    torch.manual_seed(seed)
    return DeepFM([4, 4], 2, **{"hidden_units": (3,), **deep}).double()


def copy_weights(net):
    return {name: weight.clone() for name, weight in net.state_dict().items()}


def assert_same_weights(one, other, atol=0.0):
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=atol)


class Recorder(Callbacks):
    """Records steps, and checkpoints as (finished epochs, step)."""

    def __init__(self):
        self.steps, self.checkpoints = [], []

    def on_step(self, *step):
        self.steps.append(step)

    def on_checkpoint(self, position):
        self.checkpoints.append((len(position.history.epochs), position.step))


def train_on(net, collectives, config, batches, valid=None, learning_rate=0.01, callbacks=None):
    data = TrainingData(lambda position: batches, lambda: valid or batches)
    return TrainingLoop(net, Optimizer(net, learning_rate), collectives, config, callbacks).run(data)


# Gradients of a step


def test_the_gradient_equals_that_of_the_mean_loss():
    ids, labels = rows(8)
    ours, reference = model(), model()
    sum_logloss = forward_backward(ours, ONE_EPOCH, to_batch(ids, labels))
    loss = binary_cross_entropy_with_logits(reference(ids), labels)
    loss.backward()
    assert sum_logloss.item() == pytest.approx(8 * loss.item())
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense())


def test_values_are_passed_to_the_model_in_training_and_evaluation():
    (ids, labels), net = rows(8), model()
    ones, others = torch.ones(8, 2).double(), torch.randn(8, 2, dtype=torch.float64)
    without, with_ones, with_others = (Batch(ids, labels, 8, x) for x in (None, ones, others))
    for logloss in (
        lambda batch: forward_backward(net, ONE_EPOCH, batch).item(),
        lambda batch: evaluate(net, SingleProcess(), [batch]).logloss,
    ):
        assert logloss(with_ones) == pytest.approx(logloss(without), rel=1e-12)
        assert logloss(with_others) != pytest.approx(logloss(without), rel=1e-6)


def test_l2_is_added_to_the_gradient_and_not_to_the_reported_logloss():
    ids, labels = rows(8)
    ours, reference = model(), model()
    settings, batch = LoopConfig(1, 1, w_reg=0.3, v_reg=0.2), to_batch(ids, labels)
    synchronizer = TrainingLoop(ours, Optimizer(ours, 0.01), SingleProcess(), settings).synchronizer
    forward_backward(ours, settings, batch, synchronizer.start)
    sum_logloss = synchronizer.synchronize(synchronizer.plan_exchange(ids), 8).sum_logloss
    logloss = binary_cross_entropy_with_logits(reference(ids), labels)
    rows_of_ids = ids + torch.tensor([0, 4])
    w, v = reference.linear.weights.table(rows_of_ids), reference.embedding.table(rows_of_ids)
    (logloss + 0.5 * (0.3 * w.square().sum() + 0.2 * v.square().sum()) / 8).backward()
    assert sum_logloss == pytest.approx(8 * logloss.item())
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense())


@pytest.mark.parametrize("cut", [5, 4, 8], ids=["5 and 3 rows", "4 and 4", "8 and none"])
def test_two_ranks_with_half_the_rows_each_get_the_weights_of_one_rank(in_ranks, cut):
    settings = LoopConfig(1, 1, w_reg=0.1, v_reg=0.1)
    global_batches = [rows(8, seed) for seed in range(3)]
    alone, together = model(), [model(), model()]
    loop = TrainingLoop(alone, Optimizer(alone, 0.01), SingleProcess(), settings)
    losses = [loop.step(to_batch(*batch)) for batch in global_batches]

    def work(collectives):
        net, mine = (
            together[collectives.rank],
            slice(None, cut) if collectives.rank == 0 else slice(cut, None),
        )
        loop = TrainingLoop(net, Optimizer(net, 0.01), collectives, settings)
        return [loop.step(to_batch(ids[mine], labels[mine], 8)) for ids, labels in global_batches]

    for rank_losses in in_ranks(2, work):
        assert rank_losses == pytest.approx(losses, rel=1e-12)
    assert_same_weights(together[0].state_dict(), together[1].state_dict())
    assert_same_weights(together[0].state_dict(), alone.state_dict(), atol=1e-12)


def test_ranks_start_from_the_weights_of_rank_zero(in_ranks):
    nets = [model(seed=1), model(seed=2)]
    shares = [[to_batch(*rows(4, seed), 8)] for seed in range(2)]
    in_ranks(
        2,
        lambda collectives: train_on(
            nets[collectives.rank], collectives, ONE_EPOCH, shares[collectives.rank]
        ),
    )
    assert_same_weights(nets[0].state_dict(), nets[1].state_dict())


def test_the_same_seed_gives_bit_identical_weights():
    trained = []
    for _ in range(2):
        net = model(dropout=0.5, batch_norm=True).float()
        batches = [to_batch(ids, labels.float()) for ids, labels in (rows(8, 0), rows(8, 1))]
        train_on(net, SingleProcess(), LoopConfig(3, 3), batches)
        trained.append(copy_weights(net))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_training_learns_an_interaction_of_two_fields():
    net, batch = model(hidden_units=(8,)), to_batch(*rows(64))
    training = train_on(
        net, SingleProcess(), LoopConfig(2, 2), [batch] * 40, valid=[batch], learning_rate=0.05
    )
    assert training.epochs[0].train_logloss > 0.2
    assert training.epochs[1].valid.logloss < 0.1
    assert training.epochs[1].valid.auc == 1.0


# Reported values


def test_the_logloss_of_an_epoch_is_the_mean_over_rows_and_not_over_batches():
    net, (ids, labels) = model(), rows(8)
    optimizer = Optimizer(net, 1e-12)  # changes the weights negligibly
    batches = [to_batch(ids[:7], labels[:7]), to_batch(ids[7:], labels[7:])]
    expected = binary_cross_entropy_with_logits(net(ids), labels).item()
    logloss, _, _ = TrainingLoop(net, optimizer, SingleProcess(), ONE_EPOCH).run_epoch(batches)
    assert logloss == pytest.approx(expected, rel=1e-6)


def test_every_step_is_reported_with_epoch_and_step_from_one():
    recorder, batches = Recorder(), [to_batch(*rows(4, seed)) for seed in range(2)]
    train_on(model(), SingleProcess(), LoopConfig(2, 2), batches, callbacks=recorder)
    assert [step[:2] for step in recorder.steps] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(0 < logloss < 2 and samples_per_s > 0 for _, _, logloss, samples_per_s in recorder.steps)


# Metrics and buffers of several ranks


def test_both_ranks_get_the_metrics_of_all_rows(in_ranks):
    net, (ids, labels) = model().eval(), rows(9)
    alone = evaluate(net, SingleProcess(), [to_batch(ids, labels)])
    shares = [slice(None, 4), slice(4, None)]
    results = in_ranks(
        2,
        lambda collectives: evaluate(
            net, collectives, [to_batch(ids[shares[collectives.rank]], labels[shares[collectives.rank]])]
        ),
    )
    for metrics in results:
        assert (metrics.num_rows, metrics.auc, metrics.ctr) == (9, alone.auc, alone.ctr)
        assert metrics.logloss == pytest.approx(alone.logloss, rel=1e-12)


def test_evaluation_uses_no_dropout_and_keeps_batch_norm_statistics():
    net, batch = model(dropout=0.5, batch_norm=True).train(), to_batch(*rows(8))
    before = copy_weights(net)
    one, other = (evaluate(net, SingleProcess(), [batch]) for _ in range(2))
    assert one == other
    assert_same_weights(before, net.state_dict())


def test_batch_norm_statistics_become_the_mean_over_ranks(in_ranks):
    nets = [nn.BatchNorm1d(2), nn.BatchNorm1d(2)]
    nets[0].running_mean.data = torch.tensor([1.0, 2.0])
    nets[1].running_mean.data = torch.tensor([3.0, 6.0])
    nets[0].num_batches_tracked.data = nets[1].num_batches_tracked.data = torch.tensor(7)
    in_ranks(2, lambda collectives: average_buffers(nets[collectives.rank], collectives))
    for net in nets:
        assert net.running_mean.tolist() == [2.0, 4.0]
        assert net.running_var.tolist() == [1.0, 1.0]
        assert net.num_batches_tracked.item() == 7


def test_table_offsets_are_not_averaged(in_ranks):
    nets = [model(batch_norm=True), model(batch_norm=True)]
    in_ranks(2, lambda collectives: average_buffers(nets[collectives.rank], collectives))
    assert nets[1].embedding.offsets.tolist() == [0, 4]


# Resuming


def run_training(in_ranks, num_ranks, position=None, from_states=None, dropout=0.5):
    """Return final weights, epochs, and checkpoints with their weights and optimizer states, by rank."""
    settings = LoopConfig(3, 3, seed=5, checkpoint_every_n_steps=2)
    shares = [
        [to_batch(ids[rank::num_ranks], labels[rank::num_ranks].float(), 12) for ids, labels in batches]
        for rank in range(num_ranks)
        for batches in [[rows(12, seed) for seed in range(5)]]
    ]

    def work(collectives):
        net = model(dropout=dropout, batch_norm=True, seed=3).float()
        optimizer, checkpoints = Optimizer(net, 0.01), []
        if from_states:
            weights, state = from_states[collectives.rank]
            net.load_state_dict(weights)
            optimizer.load_state(state)

        class Keep(Callbacks):
            def on_checkpoint(self, position):
                state = {name: value.clone() for name, value in optimizer.state().items()}
                checkpoints.append((copy.deepcopy(position), copy_weights(net), state))

        share = shares[collectives.rank]
        data = TrainingData(lambda position: share[position.step :], lambda: share)
        loop = TrainingLoop(net, optimizer, collectives, settings, Keep())
        history = loop.run(data, copy.deepcopy(position))
        epochs = [(epoch.number, epoch.train_logloss, epoch.valid) for epoch in history.epochs]
        return copy_weights(net), epochs, checkpoints

    return in_ranks(num_ranks, work)


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(in_ranks):
    ((weights, epochs, checkpoints),) = run_training(in_ranks, 1)
    positions = [(len(position.history.epochs), position.step) for position, _, _ in checkpoints]
    # Five steps per epoch: after every second step, and after the epoch.
    assert positions == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0), (2, 2), (2, 4), (3, 0)]
    for position, *state in checkpoints:
        ((again, same_epochs, _),) = run_training(in_ranks, 1, position, [state])
        assert all(torch.equal(weights[name], again[name]) for name in weights)
        assert same_epochs == epochs


def test_each_of_two_ranks_resumes_with_its_buffers(in_ranks):
    # Ranks that are threads share torch's random numbers, so there is no dropout.
    (weights, _, checkpoints), (same, _, other_checkpoints) = run_training(in_ranks, 2, dropout=0.0)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    position, *state = checkpoints[4]
    # Batch norm statistics differ by rank until the epoch ends.
    states = [state, other_checkpoints[4][1:]]
    for again, same_epochs, _ in run_training(in_ranks, 2, position, states, dropout=0.0):
        assert all(torch.equal(again[name], weights[name]) for name in weights)
        assert [number for number, _, _ in same_epochs] == [1, 2, 3]


def test_the_clock_of_rank_0_decides_when_all_ranks_write_a_checkpoint(in_ranks, monkeypatch):
    settings = LoopConfig(1, 1, checkpoint_every_s=1e-9)
    ids, labels = rows(12)

    def work(collectives):
        # The clock of another rank does not count.
        mine = settings if collectives.rank == 0 else dataclasses.replace(settings, checkpoint_every_s=0.0)
        share, recorder = slice(collectives.rank, None, 2), Recorder()
        batches = [to_batch(ids[share], labels[share], 12)] * 3
        train_on(model(batch_norm=True), collectives, mine, batches, callbacks=recorder)
        return recorder.checkpoints

    assert in_ranks(2, work) == [[(0, 1), (0, 2), (0, 3), (1, 0)]] * 2


def test_the_learning_rate_is_reduced_on_plateaus_also_after_resuming():
    (ids, labels), rates = rows(8), []

    class Recorded(Optimizer):
        def set_rate(self, factor):
            rates.append(factor)
            super().set_rate(factor)

    # The validation labels are inverted, so the validation loss never improves.
    schedule = Schedule("plateau", reduction=0.5)
    net = model()

    def run(position=None, max_epochs=4):
        config = LoopConfig(max_epochs, 9, schedule=schedule, steps=EpochSteps(1))
        data = TrainingData(lambda position: [to_batch(ids, labels)], lambda: [to_batch(ids, 1 - labels)])
        return TrainingLoop(net, Recorded(net, 0.1), SingleProcess(), config).run(data, position)

    history = run(max_epochs=3)
    assert rates == [1, 1, 0.5]
    run(ResumePoint(history))
    assert rates == [1, 1, 0.5, 0.25]


# Precision


def test_bfloat16_changes_gradients_slightly_and_evaluation_not_at_all():
    ids, labels = rows(64)
    nets = [model(seed=4, hidden_units=(16, 16)).float() for _ in range(2)]
    batch = to_batch(ids, labels.float())
    for net, bf16 in zip(nets, (False, True), strict=True):
        logloss = forward_backward(net, LoopConfig(1, 1, bf16=bf16), batch)
        assert logloss.dtype == torch.float64
    pairs = [(one.grad, other.grad) for one, other in zip(*(net.parameters() for net in nets), strict=True)]
    for exact, rounded in pairs:
        assert rounded.dtype == torch.float32
        exact, rounded = exact.to_dense(), rounded.to_dense()
        assert (rounded - exact).norm() < 0.02 * exact.norm() + 1e-6
    assert any(not torch.equal(exact.to_dense(), rounded.to_dense()) for exact, rounded in pairs)
    assert evaluate(nets[1], SingleProcess(), [batch]) == evaluate(nets[0], SingleProcess(), [batch])


def test_logits_of_a_bfloat16_step_are_not_rounded_to_bfloat16():
    net, (ids, _) = model(seed=4, hidden_units=(16,)).float(), rows(64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net.deep(net.embedding(ids).flatten(1))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
