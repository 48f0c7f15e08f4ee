"""Rows of an epoch that other numbers of ranks finish: each row once, in equally many steps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.dataset import read as reading
from deepfm.dataset.read import read_batches
from deepfm.dataset.row_groups import read_blocks
from deepfm.dataset.shard import Piece, Segment, Shard, remaining_rows

BATCH_SIZE = 4


def impressions(first, last):
    """Rows (label, I, C) with a unique I."""
    return [(n % 2, n, 10 * n) for n in range(first, last)]


@pytest.fixture
def dataset(write_dataset, monkeypatch):
    """67 rows in files of very unequal sizes, shuffled about 10 at a time."""
    monkeypatch.setattr(reading, "SHUFFLE_ROWS", 10)
    files = [impressions(0, 30), impressions(30, 31), impressions(31, 58), impressions(58, 67)]
    return write_dataset(files, row_group_rows=3)


def read(dataset, num_ranks, segments=(), seed=3):
    """I of each row, by rank and step, of the rest of an epoch."""
    options = {"seed": seed, "epoch": 2, "segments": segments, "num_done": steps_of(segments)}
    return [
        [
            batch.ids[:, 0].tolist()
            for batch in read_batches(*dataset, "train", Shard(rank, num_ranks, BATCH_SIZE), **options)
        ]
        for rank in range(num_ranks)
    ]


def steps_of(segments):
    return sum(segment.num_steps for segment in segments)


def rows_of(ranks):
    return [number for batches in ranks for batch in batches for number in batch]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    ("segments", "last"),
    [
        ([(2, 0)], 3),
        ([(2, 3)], 1),
        ([(1, 5)], 4),
        ([(3, 2)], 2),
        ([(2, 3), (3, 2)], 1),
        ([(5, 1), (1, 4), (2, 2)], 3),
        ([(4, 2), (2, 1), (4, 1)], 2),
        ([(2, 9)], 3),  # nothing is left
    ],
)
def test_every_row_of_an_epoch_is_read_once_in_equally_many_steps(dataset, segments, last, seed):
    finished, numbers = [], []
    for segment in (Segment(*pair) for pair in segments):
        ranks = read(dataset, segment.num_ranks, finished, seed)
        numbers += rows_of([batches[: segment.num_steps] for batches in ranks])
        finished.append(segment)
    ranks = read(dataset, last, finished, seed)
    assert len({len(batches) for batches in ranks}) == 1
    assert max((len(batch) for batches in ranks for batch in batches), default=0) <= BATCH_SIZE
    assert sorted(numbers + rows_of(ranks)) == list(range(67))


def test_the_global_batch_has_the_rows_of_the_new_ranks(dataset):
    segments = [Segment(2, 3)]
    shards = [Shard(rank, 3, BATCH_SIZE) for rank in range(3)]
    options = {"seed": 3, "segments": segments, "num_done": 3}
    ranks = [list(read_batches(*dataset, "train", shard, **options)) for shard in shards]
    for batches in zip(*ranks, strict=True):
        assert {batch.num_rows_all_ranks for batch in batches} == {sum(len(b.labels) for b in batches)}


@pytest.mark.parametrize("segments", [[], [Segment(2, 3)]], ids=["one number of ranks", "another before"])
@pytest.mark.parametrize("num_done", [0, 1, 4])
def test_the_same_ranks_continue_with_the_batches_of_an_uninterrupted_epoch(dataset, segments, num_done):
    whole = read(dataset, 3, segments)
    for rank in range(3):
        shard, steps = Shard(rank, 3, BATCH_SIZE), steps_of(segments) + num_done
        options = {"seed": 3, "epoch": 2, "segments": segments, "num_done": steps}
        rest = [b.ids[:, 0].tolist() for b in read_batches(*dataset, "train", shard, **options)]
        assert rest == whole[rank][num_done:]


def test_rows_that_are_not_needed_are_not_read(dataset, monkeypatch):
    num_read = []

    def counted(*arguments):
        for rows, files in read_blocks(*arguments):
            num_read.append(len(rows))
            yield rows, files

    monkeypatch.setattr(reading, "read_blocks", counted)
    shard = Shard(0, 1, BATCH_SIZE)
    rest = list(read_batches(*dataset, "train", shard, seed=3, num_done=15))
    assert sum(len(batch.labels) for batch in rest) == 67 - 15 * 67 // 17
    # The rows left, and at most those of one more chunk.
    assert sum(num_read) < 8 + 2 * 12


def test_a_rank_continues_with_a_range_of_the_rows_that_the_old_ranks_left():
    # Two ranks of 5 rows in steps of 3 and 2: after the first step, rank 0 left rows 2 to 5, rank 1 too.
    rows = remaining_rows(10, Shard(0, 3, 4), [Segment(2, 1)])
    assert rows.pieces == (Piece(0, 2, 5), Piece(1, 2, 5))
    assert rows.between(2, 4).pieces == (Piece(0, 4, 5), Piece(1, 2, 3))


@given(
    num_rows=st.integers(1, 300),
    batch_size=st.integers(1, 20),
    ranks=st.lists(st.tuples(st.integers(1, 7), st.floats(0, 1)), max_size=4),
)
def test_segments_divide_the_rows_for_any_sizes(num_rows, batch_size, ranks):
    segments, seen = [], set()
    for num_ranks, share in ranks:
        shard = Shard(0, num_ranks, batch_size)
        rows = remaining_rows(num_rows, shard, segments)
        num_steps = math.floor(share * shard.num_steps(rows.num_rows))
        if not segments:
            seen = row_numbers(rows)
            assert len(seen) == num_rows
        segments.append(Segment(num_ranks, num_steps))
        left = row_numbers(remaining_rows(num_rows, shard, segments))
        done = sum(shard.rows_before(rows.num_rows, rank, num_steps) for rank in range(num_ranks))
        assert left <= seen
        assert len(left) == rows.num_rows - done
        seen = left


def row_numbers(rows):
    numbers = [(piece.rank, row) for piece in rows.pieces for row in range(piece.start, piece.stop)]
    assert len(set(numbers)) == len(numbers)
    return set(numbers)
