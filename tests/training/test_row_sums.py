"""Sparse gradients of the tables: a row once, summed over a batch's lookups and over the ranks."""

import pytest
import torch

from deepfm.training.row_sums import Lookups, sum_row_gradients
from deepfm.training.world import SingleWorld


def sparse_gradient(ids, values):
    return torch.sparse_coo_tensor([ids], torch.tensor(values)[:, None], (6, 1), check_invariants=True)


def dense(gradient):
    return gradient.to_dense().flatten().tolist()


def test_lookups_of_the_same_row_are_summed():
    lookups = Lookups.of(torch.tensor([4, 1, 4, 0]))
    assert lookups.rows.tolist() == [0, 1, 4]
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    assert lookups.sums(values).tolist() == [[8, 80], [2, 20], [5, 50]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_those_of_torchs_coalesce(dtype):
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 50, (1000,), generator=random)
    values = torch.randn(1000, 17, generator=random, dtype=dtype)
    gradient = torch.sparse_coo_tensor(ids[None], values, (60, 17), check_invariants=True)
    (found,) = sum_row_gradients(SingleWorld(), [gradient])
    assert found.is_coalesced()
    assert torch.equal(found.indices(), gradient.coalesce().indices())
    torch.testing.assert_close(found.values(), gradient.coalesce().values())


def test_tables_with_the_same_lookups_are_sorted_once(monkeypatch):
    sorted_ids, real = [], Lookups.of
    monkeypatch.setattr(Lookups, "of", lambda ids: sorted_ids.append(ids.tolist()) or real(ids))
    first, second = sparse_gradient([4, 1, 4], [1.0, 2.0, 4.0]), sparse_gradient([4, 1, 4], [8.0, 0.0, 8.0])
    other = sparse_gradient([5], [3.0])
    found = sum_row_gradients(SingleWorld(), [first, second, other])
    assert sorted_ids == [[4, 1, 4], [5]]
    assert [dense(gradient) for gradient in found] == [
        [0, 2, 0, 0, 5, 0],
        [0, 0, 0, 0, 16, 0],
        [0, 0, 0, 0, 0, 3],
    ]


def test_gradients_of_two_ranks_add_up_row_by_row(in_ranks):
    gradients = [sparse_gradient([1, 4], [1.0, 2.0]), sparse_gradient([4, 0, 4], [10.0, 20.0, 40.0])]
    for (found,) in in_ranks(2, lambda world: sum_row_gradients(world, [gradients[world.rank]])):
        assert dense(found) == [20, 1, 0, 0, 52, 0]


def test_a_row_looked_up_twice_is_sent_once_and_ids_once_for_tables_that_share_them(in_ranks):
    gradients = [sparse_gradient([3, 3, 3], [1.0, 1.0, 1.0]), sparse_gradient([3, 2], [1.0, 1.0])]

    def exchanged(world):
        sent, real = [], world.gather_rows
        world.gather_rows = lambda tensor, name: sent.append((name, len(tensor))) or real(tensor, name)
        sum_row_gradients(world, [gradients[world.rank]] * 2)
        return sent

    one, other = in_ranks(2, exchanged)
    assert one == [("table.0.ids", 1), ("table.0.rows", 1), ("table.1.rows", 1)]
    assert other == [("table.0.ids", 2), ("table.0.rows", 2), ("table.1.rows", 2)]


def test_a_rank_without_rows_takes_part(in_ranks):
    gradients = [sparse_gradient([], []), sparse_gradient([5], [3.0])]
    for (found,) in in_ranks(2, lambda world: sum_row_gradients(world, [gradients[world.rank]])):
        assert dense(found) == [0, 0, 0, 0, 0, 3]
