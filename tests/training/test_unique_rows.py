"""Unique rows of a batch's lookups, with the order of the unique."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepfm.training import unique_rows
from deepfm.training.unique_rows import UniqueRows, group_on_device


def test_lookups_of_the_same_row_are_summed():
    unique = UniqueRows.from_ids(torch.tensor([4, 1, 4, 0]))
    assert unique.rows.tolist() == [0, 1, 4]
    assert unique.counts.tolist() == [1, 1, 2]
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    assert unique.sums(values).tolist() == [[8, 80], [2, 20], [5, 50]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_equal_those_of_torch_coalesce(dtype):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 50, (1000,), generator=generator)
    values = torch.randn(1000, 17, generator=generator, dtype=dtype)
    expected = torch.sparse_coo_tensor(rows[None], values, (60, 17), check_invariants=True).coalesce()
    unique = UniqueRows.from_ids(rows)
    assert torch.equal(unique.rows, expected.indices()[0])
    torch.testing.assert_close(unique.sums(values), expected.values())


def test_lookups_of_one_row_keep_their_order():
    rows = torch.tensor([7, 3, 7, 7, 3])
    unique = UniqueRows.from_ids(rows)
    assert unique.order.tolist() == [1, 4, 0, 2, 3]
    assert unique.starts.tolist() == [0, 2]


def test_rows_of_the_largest_tables_are_distinguished():
    last = 2**31 - 1
    unique = UniqueRows.from_ids(torch.tensor([last, last - 1] * 200_000))
    assert unique.rows.tolist() == [last - 1, last]
    assert unique.counts.tolist() == [200_000, 200_000]


def test_without_lookups_there_are_no_rows():
    unique = UniqueRows.from_ids(torch.tensor([], dtype=torch.int64))
    assert (unique.rows.tolist(), unique.counts.tolist()) == ([], [])
    assert unique.sums(torch.empty(0, 3)).shape == (0, 3)


@given(st.integers(0, 9), st.integers(1, 4), st.sampled_from([1, 5, 2**20, 2**40]), st.integers(0, 10**6))
def test_from_columns_equals_from_ids_of_all_columns(num_rows, num_columns, num_ids, seed):
    generator = torch.Generator().manual_seed(seed)
    offsets_from_last = torch.randint(0, min(num_ids, 5), (num_rows, num_columns), generator=generator)
    ids = (num_ids - 1) - offsets_from_last  # the largest ids of each column, some of them equal
    offsets = num_ids * torch.arange(num_columns)
    actual, expected = UniqueRows.from_columns(ids, offsets), UniqueRows.from_ids((ids + offsets).flatten())
    for name in ("rows", "order", "starts"):
        assert torch.equal(getattr(actual, name), getattr(expected, name))


@given(st.lists(st.integers(0, 6), max_size=60), st.sampled_from([0, 2**31 - 5, 2**40]))
def test_grouping_for_a_gpu_equals_grouping_on_the_cpu(rows, first):
    rows = first + torch.tensor(rows, dtype=torch.int64)
    actual, expected = group_on_device(rows), UniqueRows.from_ids(rows)
    for name in ("rows", "order", "starts", "counts"):
        assert torch.equal(getattr(actual, name), getattr(expected, name))
        assert getattr(actual, name).dtype == torch.int64


@pytest.mark.parametrize("piece_length", [1, 2, 3, 64])
def test_sums_in_two_levels_equal_those_in_one(monkeypatch, piece_length):
    monkeypatch.setattr(unique_rows, "PIECE_LENGTH", piece_length)
    generator = torch.Generator().manual_seed(1)
    # One row has most of the lookups, as a popular id.
    rows = torch.where(torch.rand(500, generator=generator) < 0.8, 3, torch.arange(500) % 20)
    values = torch.randn(500, 5, generator=generator, dtype=torch.float64)
    in_pieces = group_on_device(rows)
    torch.testing.assert_close(in_pieces.sums(values), UniqueRows.from_ids(rows).sums(values))
    lengths = torch.diff(in_pieces.pieces.starts, append=torch.tensor([500]))
    assert 1 <= lengths.min() <= lengths.max() <= piece_length
