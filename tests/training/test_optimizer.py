"""A step equals torch's own, and costs and moves only what the batch touches."""

import pytest
import torch
from torch import nn

from deepfm.models.deepfm import DeepFM
from deepfm.training.optimizer import Optimizer, dense_weights, tables

IDS = torch.tensor([[0, 2], [1, 2]])


def model():
    torch.manual_seed(0)
    return DeepFM([4, 3], 2, hidden_units=(3,))


def gradients_of(net, ids):
    net.zero_grad()
    (net(ids) * torch.tensor([1.0, -2.0])).sum().backward()


def test_tables_are_the_sparse_weights_and_the_rest_is_dense():
    net = model()
    assert [weight.shape[0] for weight in tables(net)] == [7, 7]
    assert len(dense_weights(net)) == 5  # bias, two weights and two biases of the deep part
    assert len(tables(net)) + len(dense_weights(net)) == len(list(net.parameters()))


def test_rows_that_are_not_in_the_batch_stay_as_they_are():
    net = model()
    before = net.embedding.table.weight.detach().clone()
    optimizer = Optimizer(net, 0.1)
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]])):
        gradients_of(net, ids)
        optimizer.step()
        touched = {*ids[:, 0].tolist(), *(4 + ids[:, 1]).tolist()}
        moved = (net.embedding.table.weight != before).any(dim=1).nonzero().flatten().tolist()
        assert set(moved) == touched
        # The second step must not move the rows of the first, whose moments are not zero.
        before = net.embedding.table.weight.detach().clone()


def assert_close(ours, theirs):
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)  # the same sums, in another order


def lazy_adam_by_definition(w, gradients, lr):
    """Algorithm 1 of the paper in float64, a row at a time; rows that a gradient lacks keep all they have."""
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
        for of_ours, of_theirs in zip(tables(ours), tables(theirs), strict=True):
            of_theirs.data.copy_(of_ours)
        optimizer.zero_grad()
        gradients_of(ours, ids)
        gradients_of(theirs, ids)
        for table, of_table in zip(tables(ours), gradients, strict=True):
            of_table.append(table.grad.clone())
        optimizer.step()
        adam.step()
    for one, other in zip(dense_weights(ours), dense_weights(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    for table, start, of_table in zip(tables(ours), starts, gradients, strict=True):
        expected = lazy_adam_by_definition(start, of_table, 0.05)
        torch.testing.assert_close(table.double(), expected, rtol=1e-5, atol=1e-7)


def test_moving_all_rows_equals_torch_adam_over_dense_gradients():
    ours, theirs = model(), model()
    optimizer = Optimizer(ours, 0.05, kind="adam_dense")
    adam = torch.optim.Adam(theirs.parameters(), lr=0.05)
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]])):
        optimizer.zero_grad()
        gradients_of(ours, ids)
        gradients_of(theirs, ids)
        for table in tables(theirs):
            table.grad = table.grad.to_dense()
        optimizer.step()
        adam.step()
    assert_close(ours, theirs)
    # Rows of the first batch went on moving in the second, where lazy Adam leaves them.
    lazy = model()
    optimizer = Optimizer(lazy, 0.05)
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]])):
        optimizer.zero_grad()
        gradients_of(lazy, ids)
        optimizer.step()
    assert not torch.equal(lazy.embedding.table.weight[0], ours.embedding.table.weight[0])


def test_l2_of_tables_pulls_every_row_in_every_step_as_weight_decay_does():
    ours, theirs = model(), model()
    optimizer = Optimizer(ours, 0.05, kind="adam_dense", table_l2=0.1)
    adam = torch.optim.Adam(
        [{"params": tables(theirs), "weight_decay": 0.1}, {"params": dense_weights(theirs)}], lr=0.05
    )
    gradients_of(ours, IDS)
    gradients_of(theirs, IDS)
    for table in tables(theirs):
        table.grad = table.grad.to_dense()
    optimizer.step()
    adam.step()
    assert_close(ours, theirs)


def test_adagrad_adds_up_the_mean_square_of_a_rows_gradients():
    net, rate = model(), 0.1
    before = net.embedding.table.weight.detach().clone()
    optimizer = Optimizer(net, 0.7, kind="adagrad", table_learning_rate=rate)
    expected, sums = before.clone(), torch.zeros(len(before))
    for ids in (IDS, torch.tensor([[3, 0], [3, 1]]), IDS):
        optimizer.zero_grad()
        gradients_of(net, ids)
        gradient = net.embedding.table.weight.grad.to_dense()
        for row in range(len(before)):
            if gradient[row].any():
                sums[row] += sum(g**2 for g in gradient[row].tolist()) / 2
                expected[row] -= rate * gradient[row] / sums[row].sqrt()
        optimizer.step()
    torch.testing.assert_close(net.embedding.table.weight, expected)
    assert (expected == before).all(dim=1).any()


def test_tables_may_have_a_learning_rate_of_their_own():
    net = model()
    before = [net.embedding.table.weight[0].detach().clone(), net.linear.bias.detach().clone()]
    optimizer = Optimizer(net, 0.1, table_learning_rate=0.01)
    gradients_of(net, IDS)
    optimizer.step()
    after = [net.embedding.table.weight[0], net.linear.bias]
    steps = [(a - b).abs().max().item() for a, b in zip(after, before, strict=True)]
    assert steps == [pytest.approx(0.01, rel=1e-3), pytest.approx(0.1, rel=1e-3)]


def test_the_first_step_of_a_row_is_the_learning_rate():
    net = model()
    before = net.embedding.table.weight[0].detach().clone()
    optimizer = Optimizer(net, 0.1)
    gradients_of(net, IDS)
    optimizer.step()
    # Adam's first step is learning_rate * sign(gradient), but for epsilon.
    step = (net.embedding.table.weight[0] - before).abs()
    torch.testing.assert_close(step, torch.full((2,), 0.1), rtol=1e-3, atol=0)


def test_zero_grad_forgets_dense_and_sparse_gradients():
    net = model()
    gradients_of(net, IDS)
    Optimizer(net, 0.1).zero_grad()
    assert [weight.grad for weight in net.parameters()] == [None] * 7


def test_a_model_without_tables_is_trained_too():
    net = nn.Linear(2, 1)
    optimizer = Optimizer(net, 0.1)
    net(torch.ones(1, 2)).sum().backward()
    before = net.bias.item()
    optimizer.step()
    assert net.bias.item() < before


@pytest.mark.parametrize("kind", ["adam", "adagrad", "adam_dense"])
def test_the_rate_of_a_step_is_the_settings_times_a_factor(kind):
    steps = []
    for factors in ([1.0], [0.5], [0.1, 0.5]):
        net = model()
        before = net.linear.bias.detach().clone(), net.embedding.table.weight[0].detach().clone()
        optimizer = Optimizer(net, 0.1, kind=kind)
        for factor in factors:
            optimizer.set_rate(factor)  # each replaces the one before
        gradients_of(net, IDS)
        optimizer.step()
        steps.append((net.linear.bias - before[0], net.embedding.table.weight[0] - before[1]))
    for whole, half, again in zip(*steps, strict=True):
        torch.testing.assert_close(half, whole / 2)
        assert torch.equal(half, again)
