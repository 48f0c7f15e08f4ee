"""The rows that a batch looks up: each once, with the places of its lookups."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepfm.training.unique_rows import UniqueRows


def test_lookups_of_the_same_row_are_summed():
    lookups = UniqueRows.from_ids(torch.tensor([4, 1, 4, 0]))
    assert lookups.rows.tolist() == [0, 1, 4]
    assert lookups.counts.tolist() == [1, 1, 2]
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    assert lookups.sums(values).tolist() == [[8, 80], [2, 20], [5, 50]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_those_of_torchs_coalesce(dtype):
    random = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 50, (1000,), generator=random)
    values = torch.randn(1000, 17, generator=random, dtype=dtype)
    expected = torch.sparse_coo_tensor(rows[None], values, (60, 17), check_invariants=True).coalesce()
    lookups = UniqueRows.from_ids(rows)
    assert torch.equal(lookups.rows, expected.indices()[0])
    torch.testing.assert_close(lookups.sums(values), expected.values())


def test_lookups_of_one_row_keep_their_order():
    rows = torch.tensor([7, 3, 7, 7, 3])
    lookups = UniqueRows.from_ids(rows)
    assert lookups.order.tolist() == [1, 4, 0, 2, 3]
    assert lookups.starts.tolist() == [0, 2]


def test_rows_of_the_largest_tables_are_told_apart():
    last = 2**31 - 1
    lookups = UniqueRows.from_ids(torch.tensor([last, last - 1] * 200_000))
    assert lookups.rows.tolist() == [last - 1, last]
    assert lookups.counts.tolist() == [200_000, 200_000]


def test_no_lookups_are_no_rows():
    lookups = UniqueRows.from_ids(torch.tensor([], dtype=torch.int64))
    assert (lookups.rows.tolist(), lookups.counts.tolist()) == ([], [])
    assert lookups.sums(torch.empty(0, 3)).shape == (0, 3)


@given(st.integers(0, 9), st.integers(1, 4), st.sampled_from([1, 5, 2**20, 2**40]), st.integers(0, 10**6))
def test_lookups_of_columns_are_those_of_all_rows_at_once(num_rows, num_columns, num_ids, seed):
    random = torch.Generator().manual_seed(seed)
    few = torch.randint(0, min(num_ids, 5), (num_rows, num_columns), generator=random)
    ids = (num_ids - 1) - few  # the largest of the column, some of them equal
    offsets = num_ids * torch.arange(num_columns)
    found, expected = UniqueRows.from_columns(ids, offsets), UniqueRows.from_ids((ids + offsets).flatten())
    for name in ("rows", "order", "starts"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
