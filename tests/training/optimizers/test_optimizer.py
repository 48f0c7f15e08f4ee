"""Optimizer steps equal those of torch, and update only the rows of the batch."""

import pytest
import torch
from torch import nn

from deepfm.models.deepfm import DeepFM
from deepfm.training.optimizers.optimizer import Optimizer
from deepfm.training.optimizers.weights import dense_weights, tables

IDS = torch.tensor([[0, 2], [1, 2]])


def model():
    torch.manual_seed(0)
    return DeepFM([4, 3], 2, hidden_units=(3,))


def compute_gradients(net, ids):
    net.zero_grad()
    (net(ids) * torch.tensor([1.0, -2.0])).sum().backward()


def test_tables_are_the_sparse_weights_and_the_rest_is_dense():
    net = model()
    assert [weight.shape[0] for weight in tables(net)] == [7, 7]
    assert len(dense_weights(net)) == 5  # bias, two weights and two biases of the deep part
    assert len(tables(net)) + len(dense_weights(net)) == len(list(net.parameters()))


def test_rows_outside_the_batch_do_not_change():
    net = model()
    before = net.embedding.table.weight.detach().clone()
    optimizer = Optimizer(net, 0.1)
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]])):
        compute_gradients(net, ids)
        optimizer.step()
        touched = {*ids[:, 0].tolist(), *(4 + ids[:, 1]).tolist()}
        moved = (net.embedding.table.weight != before).any(dim=1).nonzero().flatten().tolist()
        assert set(moved) == touched
        # The second step must not move the rows of the first, whose moments are not zero.
        before = net.embedding.table.weight.detach().clone()


def assert_close(ours, theirs):
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)  # the same sums in another order


def lazy_adam_by_definition(w, gradients, lr):
    """Algorithm 1 of the paper in float64, row by row; rows without a gradient do not change."""
    w = w.double()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for step, gradient in enumerate(gradients, start=1):
        gradient = gradient.coalesce()
        for row, g in zip(gradient.indices()[0].tolist(), gradient.values().double(), strict=True):
            m[row] = 0.9 * m[row] + 0.1 * g
            v[row] = 0.999 * v[row] + 0.001 * g * g
            m_hat, v_hat = m[row] / (1 - 0.9**step), v[row] / (1 - 0.999**step)
            w[row] -= lr * m_hat / (v_hat.sqrt() + 1e-8)
    return w


def test_three_steps_equal_those_of_the_paper_row_by_row_and_of_torch_adam():
    ours, theirs = model(), model()
    optimizer = Optimizer(ours, 0.05)
    adam = torch.optim.Adam(dense_weights(theirs), lr=0.05)
    starts = [table.detach().clone() for table in tables(ours)]
    gradients = [[] for _ in starts]
    for ids in (IDS, IDS.flip(0), IDS + torch.tensor([1, 0])):
        for our_table, their_table in zip(tables(ours), tables(theirs), strict=True):
            their_table.data.copy_(our_table)
        optimizer.zero_grad()
        compute_gradients(ours, ids)
        compute_gradients(theirs, ids)
        for table, table_gradients in zip(tables(ours), gradients, strict=True):
            table_gradients.append(table.grad.clone())
        optimizer.step()
        adam.step()
    for one, other in zip(dense_weights(ours), dense_weights(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    for table, start, table_gradients in zip(tables(ours), starts, gradients, strict=True):
        expected = lazy_adam_by_definition(start, table_gradients, 0.05)
        torch.testing.assert_close(table.double(), expected, rtol=1e-5, atol=1e-7)


def test_adam_dense_equals_torch_adam_with_dense_gradients():
    ours, theirs = model(), model()
    optimizer = Optimizer(ours, 0.05, kind="adam_dense")
    adam = torch.optim.Adam(theirs.parameters(), lr=0.05)
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]])):
        optimizer.zero_grad()
        compute_gradients(ours, ids)
        compute_gradients(theirs, ids)
        for table in tables(theirs):
            table.grad = table.grad.to_dense()
        optimizer.step()
        adam.step()
    assert_close(ours, theirs)
    # Rows of the first batch also change in the second step; with lazy Adam they do not.
    lazy = model()
    optimizer = Optimizer(lazy, 0.05)
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]])):
        optimizer.zero_grad()
        compute_gradients(lazy, ids)
        optimizer.step()
    assert not torch.equal(lazy.embedding.table.weight[0], ours.embedding.table.weight[0])


def test_table_l2_equals_weight_decay_of_all_rows_in_each_step():
    ours, theirs = model(), model()
    optimizer = Optimizer(ours, 0.05, kind="adam_dense", table_l2=0.1)
    adam = torch.optim.Adam(
        [{"params": tables(theirs), "weight_decay": 0.1}, {"params": dense_weights(theirs)}], lr=0.05
    )
    compute_gradients(ours, IDS)
    compute_gradients(theirs, IDS)
    for table in tables(theirs):
        table.grad = table.grad.to_dense()
    optimizer.step()
    adam.step()
    assert_close(ours, theirs)


def test_row_wise_adagrad_sums_the_mean_square_of_the_gradients_of_a_row():
    net, rate = model(), 0.1
    before = net.embedding.table.weight.detach().clone()
    optimizer = Optimizer(net, 0.7, kind="adagrad", table_learning_rate=rate)
    expected, sums = before.clone(), torch.zeros(len(before))
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]]), IDS):
        optimizer.zero_grad()
        compute_gradients(net, ids)
        gradient = net.embedding.table.weight.grad.to_dense()
        for row in range(len(before)):
            if gradient[row].any():
                sums[row] += sum(g**2 for g in gradient[row].tolist()) / 2
                expected[row] -= rate * gradient[row] / sums[row].sqrt()
        optimizer.step()
    torch.testing.assert_close(net.embedding.table.weight, expected)
    assert (expected == before).all(dim=1).any()


def test_tables_may_have_a_separate_learning_rate():
    net = model()
    before = [net.embedding.table.weight[0].detach().clone(), net.linear.bias.detach().clone()]
    optimizer = Optimizer(net, 0.1, table_learning_rate=0.01)
    compute_gradients(net, IDS)
    optimizer.step()
    after = [net.embedding.table.weight[0], net.linear.bias]
    steps = [(a - b).abs().max().item() for a, b in zip(after, before, strict=True)]
    assert steps == [pytest.approx(0.01, rel=1e-3), pytest.approx(0.1, rel=1e-3)]


def test_the_first_step_of_a_row_is_the_learning_rate():
    net = model()
    before = net.embedding.table.weight[0].detach().clone()
    optimizer = Optimizer(net, 0.1)
    compute_gradients(net, IDS)
    optimizer.step()
    # Adam's first step is learning_rate * sign(gradient), except for epsilon.
    step = (net.embedding.table.weight[0] - before).abs()
    torch.testing.assert_close(step, torch.full((2,), 0.1), rtol=1e-3, atol=0)


def test_zero_grad_removes_dense_and_sparse_gradients():
    net = model()
    compute_gradients(net, IDS)
    Optimizer(net, 0.1).zero_grad()
    assert [weight.grad for weight in net.parameters()] == [None] * 7


def test_a_model_without_tables_can_be_trained():
    net = nn.Linear(2, 1)
    optimizer = Optimizer(net, 0.1)
    net(torch.ones(1, 2)).sum().backward()
    before = net.bias.item()
    optimizer.step()
    assert net.bias.item() < before


@pytest.mark.parametrize("kind", ["adam", "adagrad", "adam_dense"])
def test_set_rate_multiplies_the_learning_rate_of_the_settings(kind):
    steps = []
    for factors in ([1.0], [0.5], [0.1, 0.5]):
        net = model()
        before = net.linear.bias.detach().clone(), net.embedding.table.weight[0].detach().clone()
        optimizer = Optimizer(net, 0.1, kind=kind)
        for factor in factors:
            optimizer.set_rate(factor)  # each call replaces the previous factor
        compute_gradients(net, IDS)
        optimizer.step()
        steps.append((net.linear.bias - before[0], net.embedding.table.weight[0] - before[1]))
    for whole, half, again in zip(*steps, strict=True):
        torch.testing.assert_close(half, whole / 2)
        assert torch.equal(half, again)
