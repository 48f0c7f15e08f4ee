"""Learning rates of table rows by their number of training rows."""

from dataclasses import dataclass

import pytest
import torch

from deepfm.models.fm import FM
from deepfm.training.optimizers.lazy_adam import LazyAdam
from deepfm.training.optimizers.optimizer import Optimizer
from deepfm.training.optimizers.row_adagrad import RowAdagrad
from deepfm.training.optimizers.row_rates import count_rows, row_rates, shrink_initial_rows

IDS = torch.tensor([[0, 1], [0, 2], [1, 2], [0, 2]])  # two fields of 3 ids


@dataclass
class Rows:
    ids: torch.Tensor
    x = None


def test_rows_are_counted_over_all_batches_of_all_ranks(in_ranks):
    def count(collectives):
        mine = IDS[collectives.rank :: collectives.size]
        return count_rows(FM((3, 3), 2), [Rows(mine[:1]), Rows(mine[1:])], collectives)[2]

    for num_ranks in (1, 2):
        for counts in in_ranks(num_ranks, count):
            assert counts.tolist() == [3, 1, 0, 0, 1, 3]


def test_empty_slots_of_lists_are_not_counted(in_ranks):
    model = FM((3, 3), 2)
    for table in (model.embedding, model.linear.weights):
        table.set_slots([1, 2])
    ids = torch.tensor([[0, 1, 2], [0, 2, -1]])
    (counts,) = in_ranks(1, lambda collectives: count_rows(model, [Rows(ids)], collectives)[3])
    assert counts.tolist() == [2, 0, 0, 0, 1, 2]


def test_a_rate_is_the_share_of_the_information_of_a_value_in_that_with_the_prior():
    rates = row_rates(torch.tensor([0, 100, 10_000]), ctr=0.2, damping=16.0)
    assert rates.tolist() == pytest.approx([0.0, 0.5, 1600 / 1616])


def test_a_rarer_click_gives_a_value_less_information():
    counts = torch.tensor([100])
    assert row_rates(counts, 0.02, 16.0) < row_rates(counts, 0.2, 16.0)


@pytest.mark.parametrize("optimizer", [LazyAdam, RowAdagrad])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_step_of_a_row_is_multiplied_by_its_rate(optimizer, num_steps):
    def moved(row_rates):
        table = torch.nn.Embedding(3, 2, sparse=True)
        torch.nn.init.ones_(table.weight)
        steps = optimizer([{"params": [table.weight], "row_rates": row_rates}], lr=0.1)
        for _ in range(num_steps):
            steps.zero_grad()
            table(torch.tensor([0, 1])).sum().backward()  # gradients do not depend on the weights
            steps.step()
        return table.weight.detach() - 1

    full = moved(None)
    assert torch.equal(full[2], torch.zeros(2)) and (full[:2] < 0).all()
    torch.testing.assert_close(
        moved(torch.tensor([0.25, 0.0, 1.0])), full * torch.tensor([[0.25], [0.0], [1]])
    )


def test_each_table_has_the_rates_of_its_columns():
    model = FM((3, 3), 2)
    rates = {2: torch.linspace(0, 1, 6)}
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer = Optimizer(model, 0.1, row_rates=rates)
    (model(IDS)).sum().backward()
    for table in optimizer.sparse:
        table.grad = table.grad.coalesce()
    optimizer.step()
    for weight, start in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight[0], start[0]) == (len(weight) > 1)  # row 0 has rate 0
        assert not torch.equal(weight[-1], start[-1])


def test_random_initial_rows_are_multiplied_by_their_rates():
    model = FM((3, 3), 2, init_std=1.0)
    before = model.embedding.table.weight.detach().clone()
    rates = torch.linspace(0, 1, 6)
    shrink_initial_rows(model, {2: rates})
    assert torch.equal(model.embedding.table.weight.detach(), before * rates[:, None])
