"""The loop on one rank, and on ranks that are threads: what it optimises, and what ranks share."""

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
from deepfm.training.loop import (
    LoopConfig,
    build_synchronizer,
    forward_backward,
    train,
    train_epoch,
    train_step,
)
from deepfm.training.optimizer import Optimizer
from deepfm.training.schedule import Schedule

ONE_EPOCH = LoopConfig(max_epochs=1, patience=1)


@dataclass
class Batch:
    ids: torch.Tensor
    labels: torch.Tensor
    num_rows_all_ranks: int
    x: torch.Tensor | None = None


def rows(num_rows, seed=0):
    """Ids of two fields and labels; a click is an odd sum of ids."""
    ids = torch.randint(0, 4, (num_rows, 2), generator=torch.Generator().manual_seed(seed))
    return ids, (ids.sum(dim=1) % 2).double()


def batch_of(ids, labels, num_rows_all_ranks=None):
    return Batch(ids, labels, num_rows_all_ranks or len(ids))


def model(seed=0, **deep):
    """In float64, so that sums in another order are the same to 1e-12."""
    torch.manual_seed(seed)
    return DeepFM([4, 4], 2, **{"hidden_units": (3,), **deep}).double()


def weights_of(net):
    return {name: weight.clone() for name, weight in net.state_dict().items()}


def assert_same_weights(one, other, atol=0.0):
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=atol)


def train_on(net, collectives, settings, batches, valid=None, learning_rate=0.01, **calls):
    return train(
        net,
        Optimizer(net, learning_rate),
        collectives,
        settings,
        read_train=lambda epoch, num_done: batches,
        read_valid=lambda: valid or batches,
        **{"on_step": lambda *_: None, "on_epoch": lambda *_: None, **calls},
    )


# What a step optimises


def test_a_step_follows_the_gradient_of_the_mean_loss():
    ids, labels = rows(8)
    ours, theirs = model(), model()
    sum_logloss = forward_backward(ours, ONE_EPOCH, batch_of(ids, labels))
    loss = binary_cross_entropy_with_logits(theirs(ids), labels)
    loss.backward()
    assert sum_logloss.item() == pytest.approx(8 * loss.item())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense())


def test_values_reach_the_model_in_training_and_evaluation():
    (ids, labels), net = rows(8), model()
    ones, others = torch.ones(8, 2).double(), torch.randn(8, 2, dtype=torch.float64)
    without, with_ones, with_others = (Batch(ids, labels, 8, x) for x in (None, ones, others))
    for logloss in (
        lambda batch: forward_backward(net, ONE_EPOCH, batch).item(),
        lambda batch: evaluate(net, SingleProcess(), [batch]).logloss,
    ):
        assert logloss(with_ones) == pytest.approx(logloss(without), rel=1e-12)
        assert logloss(with_others) != pytest.approx(logloss(without), rel=1e-6)


def test_l2_is_added_to_the_gradient_of_the_mean_loss_and_not_to_the_logloss_told():
    ids, labels = rows(8)
    ours, theirs = model(), model()
    settings, batch = LoopConfig(1, 1, w_reg=0.3, v_reg=0.2), batch_of(ids, labels)
    synchronizer = build_synchronizer(ours, SingleProcess(), settings)
    forward_backward(ours, settings, batch, synchronizer.start)
    sum_logloss = synchronizer.synchronize(synchronizer.plan_exchange(ids), 8)
    logloss = binary_cross_entropy_with_logits(theirs(ids), labels)
    of_fields = ids + torch.tensor([0, 4])
    w, v = theirs.linear.weights.table(of_fields), theirs.embedding.table(of_fields)
    (logloss + 0.5 * (0.3 * w.square().sum() + 0.2 * v.square().sum()) / 8).backward()
    assert sum_logloss == pytest.approx(8 * logloss.item())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense())


@pytest.mark.parametrize("cut", [5, 4, 8], ids=["5 and 3 rows", "4 and 4", "8 and none"])
def test_two_ranks_with_a_share_each_do_what_one_rank_does_with_all_rows(in_ranks, cut):
    settings = LoopConfig(1, 1, w_reg=0.1, v_reg=0.1)
    global_batches = [rows(8, seed) for seed in range(3)]
    alone, together = model(), [model(), model()]
    optimizer = Optimizer(alone, 0.01)
    synchronizer = build_synchronizer(alone, SingleProcess(), settings)
    losses = [train_step(alone, optimizer, synchronizer, settings, batch_of(*b)) for b in global_batches]

    def work(collectives):
        net, mine = (
            together[collectives.rank],
            slice(None, cut) if collectives.rank == 0 else slice(cut, None),
        )
        optimizer, synchronizer = Optimizer(net, 0.01), build_synchronizer(net, collectives, settings)
        return [
            train_step(net, optimizer, synchronizer, settings, batch_of(ids[mine], labels[mine], 8))
            for ids, labels in global_batches
        ]

    for found in in_ranks(2, work):
        assert found == pytest.approx(losses, rel=1e-12)
    assert_same_weights(together[0].state_dict(), together[1].state_dict())
    assert_same_weights(together[0].state_dict(), alone.state_dict(), atol=1e-12)


def test_ranks_start_from_the_weights_of_rank_zero(in_ranks):
    nets = [model(seed=1), model(seed=2)]
    shares = [[batch_of(*rows(4, seed), 8)] for seed in range(2)]
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
        batches = [batch_of(ids, labels.float()) for ids, labels in (rows(8, 0), rows(8, 1))]
        train_on(net, SingleProcess(), LoopConfig(3, 3), batches)
        trained.append(weights_of(net))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_training_learns_what_neither_field_says_alone():
    net, batch = model(hidden_units=(8,)), batch_of(*rows(64))
    training = train_on(
        net, SingleProcess(), LoopConfig(2, 2), [batch] * 40, valid=[batch], learning_rate=0.05
    )
    assert training.epochs[0].train_logloss > 0.2
    assert training.epochs[1].valid.logloss < 0.1
    assert training.epochs[1].valid.auc == 1.0


# What is told


def test_an_epochs_logloss_is_the_mean_over_rows_and_not_over_batches():
    net, (ids, labels) = model(), rows(8)
    optimizer = Optimizer(net, 1e-12)  # hardly moves the weights
    batches = [batch_of(ids[:7], labels[:7]), batch_of(ids[7:], labels[7:])]
    expected = binary_cross_entropy_with_logits(net(ids), labels).item()
    synchronizer = build_synchronizer(net, SingleProcess(), ONE_EPOCH)
    found, _ = train_epoch(net, optimizer, synchronizer, ONE_EPOCH, batches, on_step=lambda *_: None)
    assert found == pytest.approx(expected, rel=1e-6)


def test_every_step_is_told_with_its_epoch_and_number_from_one():
    told, batches = [], [batch_of(*rows(4, seed)) for seed in range(2)]
    train_on(model(), SingleProcess(), LoopConfig(2, 2), batches, on_step=lambda *step: told.append(step))
    assert [step[:2] for step in told] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(0 < logloss < 2 and samples_per_s > 0 for _, _, logloss, samples_per_s in told)


# What ranks share


def test_metrics_of_two_ranks_are_those_of_all_rows_on_both(in_ranks):
    net, (ids, labels) = model().eval(), rows(9)
    alone = evaluate(net, SingleProcess(), [batch_of(ids, labels)])
    shares = [slice(None, 4), slice(4, None)]
    found = in_ranks(
        2,
        lambda collectives: evaluate(
            net, collectives, [batch_of(ids[shares[collectives.rank]], labels[shares[collectives.rank]])]
        ),
    )
    for metrics in found:
        assert (metrics.num_rows, metrics.auc, metrics.ctr) == (9, alone.auc, alone.ctr)
        assert metrics.logloss == pytest.approx(alone.logloss, rel=1e-12)


def test_evaluation_drops_out_nothing_and_leaves_the_statistics_of_batch_norm_alone():
    net, batch = model(dropout=0.5, batch_norm=True).train(), batch_of(*rows(8))
    before = weights_of(net)
    one, other = (evaluate(net, SingleProcess(), [batch]) for _ in range(2))
    assert one == other
    assert_same_weights(before, net.state_dict())


def test_batch_norms_statistics_become_the_mean_over_ranks_and_its_counter_stays(in_ranks):
    nets = [nn.BatchNorm1d(2), nn.BatchNorm1d(2)]
    nets[0].running_mean.data = torch.tensor([1.0, 2.0])
    nets[1].running_mean.data = torch.tensor([3.0, 6.0])
    nets[0].num_batches_tracked.data = nets[1].num_batches_tracked.data = torch.tensor(7)
    in_ranks(2, lambda collectives: average_buffers(nets[collectives.rank], collectives))
    for net in nets:
        assert net.running_mean.tolist() == [2.0, 4.0]
        assert net.running_var.tolist() == [1.0, 1.0]
        assert net.num_batches_tracked.item() == 7


def test_offsets_of_the_tables_are_no_statistics_and_stay(in_ranks):
    nets = [model(batch_norm=True), model(batch_norm=True)]
    in_ranks(2, lambda collectives: average_buffers(nets[collectives.rank], collectives))
    assert nets[1].embedding.offsets.tolist() == [0, 4]


# Going on where a training was cut off


def course(in_ranks, num_ranks, position=None, from_states=None, dropout=0.5):
    """Weights at the end, the training, and all checkpoints with the weights and moments of then."""
    settings = LoopConfig(3, 3, seed=5, checkpoint_every_n_steps=2)
    shares = [
        [batch_of(ids[rank::num_ranks], labels[rank::num_ranks].float(), 12) for ids, labels in batches]
        for rank in range(num_ranks)
        for batches in [[rows(12, seed) for seed in range(5)]]
    ]

    def work(collectives):
        net = model(dropout=dropout, batch_norm=True, seed=3).float()
        optimizer, kept = Optimizer(net, 0.01), []
        if from_states:
            weights, moments = from_states[collectives.rank]
            net.load_state_dict(weights)
            optimizer.load_state(moments)

        def keep(place):
            moments = {name: value.clone() for name, value in optimizer.state().items()}
            kept.append((copy.deepcopy(place), weights_of(net), moments))

        training = train(
            net,
            optimizer,
            collectives,
            settings,
            read_train=lambda epoch, num_done: shares[collectives.rank][num_done:],
            read_valid=lambda: shares[collectives.rank],
            on_step=lambda *_: None,
            on_epoch=lambda *_: None,
            on_checkpoint=keep,
            position=copy.deepcopy(position),
        )
        return weights_of(net), [(e.number, e.train_logloss, e.valid) for e in training.epochs], kept

    return in_ranks(num_ranks, work)


def test_a_training_that_goes_on_ends_with_the_weights_of_one_that_was_never_cut(in_ranks):
    ((weights, epochs, kept),) = course(in_ranks, 1)
    places = [(len(place.history.epochs), place.step) for place, _, _ in kept]
    # Of five steps an epoch, after every second, and after the epoch.
    assert places == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0), (2, 2), (2, 4), (3, 0)]
    for place, *state in kept:
        ((again, same_epochs, _),) = course(in_ranks, 1, place, [state])
        assert all(torch.equal(weights[name], again[name]) for name in weights)
        assert same_epochs == epochs


def test_two_ranks_go_on_from_what_they_had(in_ranks):
    # Ranks that are threads share torch's random numbers: without dropout.
    (weights, _, kept), (same, _, kept_too) = course(in_ranks, 2, dropout=0.0)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    place, *state = kept[4]
    # Batch norm's statistics are each rank's own until the epoch ends.
    states = [state, kept_too[4][1:]]
    for again, same_epochs, _ in course(in_ranks, 2, place, states, dropout=0.0):
        assert all(torch.equal(again[name], weights[name]) for name in weights)
        assert [number for number, _, _ in same_epochs] == [1, 2, 3]


def test_rank_zeros_clock_makes_all_ranks_write_a_checkpoint_after_the_same_step(in_ranks, monkeypatch):
    settings = LoopConfig(1, 1, checkpoint_every_s=1e-9)
    ids, labels = rows(12)

    def work(collectives):
        # Another rank's own clock is not asked.
        mine = settings if collectives.rank == 0 else dataclasses.replace(settings, checkpoint_every_s=0.0)
        share, places = slice(collectives.rank, None, 2), []
        train_on(
            model(batch_norm=True),
            collectives,
            mine,
            [batch_of(ids[share], labels[share], 12)] * 3,
            on_checkpoint=lambda place: places.append((len(place.history.epochs), place.step)),
        )
        return places

    assert in_ranks(2, work) == [[(0, 1), (0, 2), (0, 3), (1, 0)]] * 2


def test_rates_fall_where_epochs_brought_no_progress_also_after_going_on():
    (ids, labels), rates = rows(8), []

    class Recorded(Optimizer):
        def set_rate(self, factor):
            rates.append(factor)
            super().set_rate(factor)

    # A valid loss that never gets better: of labels turned round.
    schedule = Schedule("plateau", reduction=0.5)
    net = model()

    def run(position=None, max_epochs=4):
        kept = []
        train(
            net,
            Recorded(net, 0.1),
            SingleProcess(),
            LoopConfig(max_epochs, 9, schedule=schedule, steps_per_epoch=1),
            read_train=lambda epoch, num_done: [batch_of(ids, labels)],
            read_valid=lambda: [batch_of(ids, 1 - labels)],
            on_step=lambda *_: None,
            on_epoch=lambda *_: None,
            on_checkpoint=lambda place: kept.append(copy.deepcopy(place)),
            position=position,
        )
        return kept

    kept = run(max_epochs=3)
    assert rates == [1, 1, 0.5]
    run(kept[-1])
    assert rates == [1, 1, 0.5, 0.25]


# Precision


def test_a_step_in_bfloat16_has_nearly_the_gradients_of_one_in_float32_and_evaluation_is_not_in_it():
    ids, labels = rows(64)
    nets = [model(seed=4, hidden_units=(16, 16)).float() for _ in range(2)]
    batch = batch_of(ids, labels.float())
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


def test_logits_of_a_step_in_bfloat16_are_not_rounded_to_its_eight_bits():
    net, (ids, _) = model(seed=4, hidden_units=(16,)).float(), rows(64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net.deep(net.embedding(ids).flatten(1))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
