"""Batches of the ranks: together each row once, in equally many steps, in a new order each epoch."""

import gc
import math
import pickle
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepfm.dataset.manifest import DataFile
from deepfm.dataset.read import read_batches
from deepfm.dataset.row_groups import RowRange, row_ranges
from deepfm.dataset.shard import Shard
from deepfm.errors import UserError


def impressions(first, last):
    """Rows (label, I, C) with a unique I."""
    return [(n % 2, n, 10 * n) for n in range(first, last)]


#: Three files of very unequal sizes, in row groups of 4: 23 rows.
UNEQUAL = [impressions(0, 14), impressions(14, 15), impressions(15, 23)]


@pytest.fixture
def dataset(write_dataset):
    return write_dataset(UNEQUAL, row_group_rows=4)


def read(dataset, rank=0, size=1, batch_size=5, split="train", **options):
    return list(read_batches(*dataset, split, Shard(rank, size, batch_size), **options))


def numbers(batches):
    """I of each row, in reading order."""
    return [number for batch in batches for number in batch.ids[:, 0].tolist()]


def test_a_batch_has_ids_and_labels(dataset):
    (batch,) = read(dataset, split="valid")
    assert batch.ids.tolist() == [[2, 3]]
    assert batch.x is None
    assert batch.labels.tolist() == [1.0]
    assert (batch.ids.dtype, batch.labels.dtype) == (torch.int64, torch.float32)
    assert batch.num_rows_all_ranks == 1


def test_labels_and_ids_of_a_row_stay_together(dataset):
    for batch in read(dataset, seed=3):
        assert torch.equal(batch.labels, batch.ids[:, 0] % 2)
        assert torch.equal(batch.ids[:, 1], 10 * batch.ids[:, 0])


def test_without_a_seed_rows_have_the_order_of_the_files(dataset):
    assert numbers(read(dataset)) == list(range(23))


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_all_ranks_together_read_each_row_once(dataset, size, seed):
    ranks = [read(dataset, rank, size, seed=seed, epoch=4) for rank in range(size)]
    assert sorted(number for batches in ranks for number in numbers(batches)) == list(range(23))


@pytest.mark.parametrize(("size", "batch_size"), [(2, 5), (3, 4), (7, 2), (4, 100), (23, 1), (2, 1)])
def test_all_ranks_have_the_same_number_of_steps(dataset, size, batch_size):
    steps = {len(read(dataset, rank, size, batch_size, seed=1)) for rank in range(size)}
    assert steps == {math.ceil(math.ceil(23 / size) / batch_size)}


def test_there_may_be_more_ranks_than_files(dataset):
    ranks = [read(dataset, rank, size=10, seed=1) for rank in range(10)]
    assert all(len(numbers(batches)) in (2, 3) for batches in ranks)


def test_ranks_know_the_rows_of_the_global_batch(dataset):
    ranks = [read(dataset, rank, size=3, batch_size=4, seed=1) for rank in range(3)]
    for batches in zip(*ranks, strict=True):
        num_rows = sum(len(batch.labels) for batch in batches)
        assert [batch.num_rows_all_ranks for batch in batches] == [num_rows] * 3


def test_the_last_partial_batch_is_not_dropped(dataset):
    batches = read(dataset, batch_size=22)
    assert [len(batch.labels) for batch in batches] == [11, 12]


def test_no_batch_exceeds_the_batch_size(dataset):
    assert max(len(batch.labels) for batch in read(dataset, batch_size=5)) <= 5


def test_order_differs_between_epochs(dataset):
    first, second = (numbers(read(dataset, seed=1, epoch=epoch)) for epoch in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_order_within_a_file_differs_between_epochs(write_dataset):
    dataset = write_dataset([impressions(0, 20)])
    assert numbers(read(dataset, seed=1, epoch=0)) != numbers(read(dataset, seed=1, epoch=1))


def test_rows_are_shuffled_in_chunks_of_limited_size(write_dataset, monkeypatch):
    monkeypatch.setattr("deepfm.dataset.read.SHUFFLE_ROWS", 8)
    order = numbers(read(write_dataset([impressions(0, 20)], row_group_rows=4), seed=1))
    assert [sorted(order[:8]), sorted(order[8:16]), sorted(order[16:])] == [
        list(range(0, 8)),
        list(range(8, 16)),
        list(range(16, 20)),
    ]
    assert order != sorted(order)


def test_a_rank_reads_other_rows_in_other_epochs(dataset):
    shares = {tuple(sorted(numbers(read(dataset, 0, 2, seed=1, epoch=epoch)))) for epoch in range(8)}
    assert len(shares) > 1


def test_the_same_seed_and_epoch_give_the_same_order(dataset):
    orders = [numbers(read(dataset, 1, 2, seed=7, epoch=3)) for _ in range(5)]
    assert orders == [orders[0]] * 5
    assert orders[0] != numbers(read(dataset, 1, 2, seed=8, epoch=3))


def test_rows_of_different_files_are_mixed(write_dataset):
    dataset = write_dataset([impressions(0, 20), impressions(20, 40)])
    first_half = numbers(read(dataset, seed=1))[:20]
    assert 0 < sum(number < 20 for number in first_half) < 20


def test_many_row_groups_keep_their_order(write_dataset):
    dataset = write_dataset([impressions(start, start + 50) for start in range(0, 500, 50)], row_group_rows=3)
    for _ in range(3):
        assert numbers(read(dataset, batch_size=64)) == list(range(500))


def test_ids_beyond_the_precision_of_a_float_stay_distinct(write_dataset):
    large = [2**24, 2**24 + 1, 2**31 - 2, 2**31 - 1]
    dataset = write_dataset([[(0, n, n) for n in large]])
    assert numbers(read(dataset)) == large


def test_an_epoch_frees_its_memory(dataset):
    gc.collect()
    before = pa.total_allocated_bytes()
    gc.disable()  # a training creates too few objects to trigger a collection
    try:
        for epoch in range(3):
            assert len(numbers(read(dataset, seed=1, epoch=epoch))) == 23
            assert pa.total_allocated_bytes() == before
    finally:
        gc.enable()


def test_fewer_rows_than_ranks_is_an_error(dataset):
    with pytest.raises(UserError, match="expected at least one row for each of 24 workers, found 23"):
        read(dataset, rank=0, size=24)


def test_files_outside_the_manifest_are_not_read(dataset, tmp_path):
    pq.write_table(
        pa.table({"label": pa.array([1], pa.int8()), "I": [999], "C": [999]}),
        tmp_path / "dataset" / "train" / "part-99999.parquet",
    )
    assert numbers(read(dataset)) == list(range(23))


def test_reading_prints_nothing_to_stdout(dataset, capfd):
    read(dataset)
    assert capfd.readouterr().out == ""


def test_reading_may_stop_before_the_end_of_an_epoch(dataset):
    batches = read_batches(*dataset, "train", Shard(0, 1, 2))
    next(batches)
    batches.close()
    assert numbers(read(dataset)) == list(range(23))


class Bomb:
    """Unpickling makes a folder, by `eval`, which Petastorm's restricted unpickler allows."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({self.path!r})",)


def test_a_hostile_pickle_in_the_dataset_is_never_executed(dataset, tmp_path):
    payload = pickle.dumps(Bomb(str(tmp_path / "executed")))
    path = tmp_path / "dataset" / "train" / "part-00000.parquet"
    schema = pq.read_schema(path).with_metadata({b"dataset-toolkit.unischema.v1": payload})
    for name in ("_common_metadata", "_metadata"):
        pq.write_metadata(schema, tmp_path / "dataset" / "train" / name)
    # In a data file too: its schema may contain any metadata.
    pq.write_table(pq.read_table(path).replace_schema_metadata(schema.metadata), path, row_group_size=4)
    assert numbers(read(dataset)) == list(range(23))
    assert not (tmp_path / "executed").exists()
    with pytest.raises(FileExistsError):
        (tmp_path / "executed").mkdir()
        pickle.loads(payload)


def test_batches_are_made_on_the_device(dataset):
    batch = read(dataset, device=torch.device("meta"))[0]
    assert [tensor.device.type for tensor in (batch.ids, batch.labels)] == ["meta"] * 2


@pytest.mark.parametrize("num_readers", [2, 20])
@pytest.mark.parametrize("seed", [None, 5])
def test_several_readers_return_the_same_batches(write_dataset, num_readers, seed):
    dataset = write_dataset(UNEQUAL, row_group_rows=100)  # one row group in each file
    for rank in range(2):
        one, several = (
            read(dataset, rank=rank, size=2, batch_size=3, seed=seed, num_readers=number)
            for number in (1, num_readers)
        )
        assert [batch.ids.tolist() for batch in several] == [batch.ids.tolist() for batch in one]
        assert [batch.files for batch in several] == [batch.files for batch in one]


def test_several_readers_end_with_the_iterator_that_reads(write_dataset):
    dataset = write_dataset(UNEQUAL, row_group_rows=100)
    before = threading.active_count()
    batches = read_batches(*dataset, "train", Shard(0, 1, 2), num_readers=3)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def file_of(name, num_rows):
    return DataFile(name=name, num_bytes=1, row_groups=(num_rows,))


def test_row_ranges_cut_the_concatenated_files():
    a, b, c = files = [file_of("a", 3), file_of("b", 4), file_of("c", 5)]
    assert row_ranges(files, 0, 12) == [RowRange(a, 0, 3), RowRange(b, 0, 4), RowRange(c, 0, 5)]
    assert row_ranges(files, 2, 8) == [RowRange(a, 2, 3), RowRange(b, 0, 4), RowRange(c, 0, 1)]
    assert row_ranges(files, 3, 7) == [RowRange(b, 0, 4)]
    assert row_ranges(files, 5, 5) == []


SIZES = st.integers(1, 12)


@given(num_rows=st.integers(1, 500), size=SIZES, batch_size=st.integers(1, 40))
def test_shares_and_batches_cover_all_rows_for_any_sizes(num_rows, size, batch_size):
    shards = [Shard(rank, size, batch_size) for rank in range(size)]
    bounds = [shard.row_bounds(num_rows, shard.rank) for shard in shards]
    assert [first for first, _ in bounds] == [0, *(last for _, last in bounds[:-1])]
    assert bounds[-1][1] == num_rows
    lengths = [last - first for first, last in bounds]
    assert max(lengths) - min(lengths) <= 1
    for shard, length in zip(shards, lengths, strict=True):
        steps = range(shard.num_steps(num_rows))
        rows = [shard.batch_rows(num_rows, shard.rank, step) for step in steps]
        assert sum(rows) == length
        assert max(rows) <= batch_size


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, 7, 0), "I from 0 to 6, found 7"),
        ((1, 0, -1), "C from 0 to 8, found -1"),
        ((1, None, 0), "I from 0 to 6, found a null"),
    ],
)
def test_an_id_out_of_range_is_an_error_with_field_and_file(write_dataset, row, message):
    url, manifest = write_dataset([[(0, 6, 8)], [row]])
    manifest = manifest.model_copy(update={"num_ids": (7, 9)})
    with pytest.raises(UserError, match=f"part-00001.parquet: expected .*{message}"):
        read((url, manifest))
    assert numbers(read((url, manifest), split="valid")) == [2]
