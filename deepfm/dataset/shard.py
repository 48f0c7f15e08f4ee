"""Distribution of an epoch's rows over ranks, also if the number of ranks changes within the epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Segment(NamedTuple):
    """Finished steps of an epoch with one number of ranks."""

    num_ranks: int
    num_steps: int


@dataclass(frozen=True)
class Shard:
    """Share of one of `size` ranks in a sequence of rows, in steps of at most `batch_size` rows."""

    rank: int
    size: int
    batch_size: int

    def row_bounds(self, num_rows: int, rank: int) -> tuple[int, int]:
        """Return first and last (exclusive) row of a rank; ranks differ by at most one row."""
        return rank * num_rows // self.size, (rank + 1) * num_rows // self.size

    def num_steps(self, num_rows: int) -> int:
        """Return the number of steps, equal on all ranks: a rank with one more would hang."""
        longest = math.ceil(num_rows / self.size)
        return math.ceil(longest / self.batch_size)

    def rows_before(self, num_rows: int, rank: int, step: int) -> int:
        """Return the number of a rank's rows in its first `step` batches."""
        first, last = self.row_bounds(num_rows, rank)
        return step * (last - first) // max(self.num_steps(num_rows), 1)

    def batch_rows(self, num_rows: int, rank: int, step: int) -> int:
        """Return the size of a rank's batch: its rows are divided almost equally among `num_steps`."""
        return self.rows_before(num_rows, rank, step + 1) - self.rows_before(num_rows, rank, step)


class Piece(NamedTuple):
    """Rows `start` to `stop` (exclusive) of those of a rank, in the order in which it reads them."""

    rank: int  # of the ranks that started the epoch
    start: int
    stop: int


@dataclass(frozen=True)
class RowSequence:
    """Sequence of rows of an epoch, which ranks share as equal ranges."""

    pieces: tuple[Piece, ...]

    @property
    def num_rows(self) -> int:
        """Number of rows of all pieces."""
        return sum(piece.stop - piece.start for piece in self.pieces)

    def between(self, first: int, last: int) -> "RowSequence":
        """Return rows first to last (exclusive)."""
        pieces, position = [], 0
        for rank, start, stop in self.pieces:
            begin, end = max(first - position, 0), min(last - position, stop - start)
            if begin < end:
                pieces.append(Piece(rank, start + begin, start + end))
            position += stop - start
        return RowSequence(tuple(pieces))

    def after(self, shard: Shard, num_steps: int) -> "RowSequence":
        """Return the rows that are left after the first steps of `shard.size` ranks, rank by rank."""
        num_rows = self.num_rows
        pieces: list[Piece] = []
        for rank in range(shard.size):
            first, last = shard.row_bounds(num_rows, rank)
            pieces += self.between(first + shard.rows_before(num_rows, rank, num_steps), last).pieces
        return RowSequence(tuple(pieces))


def starting_ranks(num_ranks: int, segments: Sequence[Segment]) -> int:
    """Return the number of ranks that started an epoch, which `num_ranks` continue after the segments."""
    return segments[0].num_ranks if segments else num_ranks


def remaining_rows(num_rows: int, shard: Shard, segments: Sequence[Segment] = ()) -> RowSequence:
    """Return the rows of an epoch of `num_rows` rows that are left after its finished segments."""
    first = Shard(0, starting_ranks(shard.size, segments), shard.batch_size)
    bounds = [first.row_bounds(num_rows, rank) for rank in range(first.size)]
    rows = RowSequence(tuple(Piece(rank, 0, last - first) for rank, (first, last) in enumerate(bounds)))
    for num_ranks, num_steps in segments:
        rows = rows.after(Shard(0, num_ranks, shard.batch_size), num_steps)
    return rows
