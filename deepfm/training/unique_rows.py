"""Unique rows of a table among the lookups of a batch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from deepfm.models.layers import FieldEmbedding

#: Lookups of one row that one GPU thread sums: a popular id is in every impression of a batch, and a single
#: thread would sum all of them while the others wait.
PIECE_LENGTH = 64


@dataclass(frozen=True)
class Pieces:
    """Segments of `order` of at most PIECE_LENGTH lookups of one row, in the order of the rows."""

    starts: Tensor  # (P,) int64: where each piece starts in `order`
    starts_of_rows: Tensor  # (U,) int64: the first piece of each row


@dataclass(frozen=True)
class UniqueRows:
    """The U distinct rows of N lookups, and the lookups of each row."""

    rows: Tensor  # (U,) int64, ascending
    order: Tensor  # (N,) int64: indices of the lookups, sorted by row
    starts: Tensor  # (U,) int64: where the lookups of each row start in `order`
    pieces: Pieces | None = None  # for sums in two levels; None: in one

    @classmethod
    def from_ids(cls, rows: Tensor) -> "UniqueRows":
        """Group (N,) int64 rows; equal rows keep their order, so that sums are reproducible."""
        if rows.device.type != "cpu":
            return group_on_device(rows)
        distinct, order, starts = map(torch.from_numpy, _group(rows.numpy()))
        return cls(distinct, order, starts)

    @classmethod
    def from_columns(cls, ids: Tensor, offsets: Tensor) -> "UniqueRows":
        """Group (B, F) ids on the CPU, faster than `from_ids`; `offsets`: (F,) first row of each column.

        The rows of a column all follow those of the column before it, so each column is sorted by itself.
        """
        distinct, order, starts = map(torch.from_numpy, _group_columns(ids.numpy(), offsets.numpy()))
        return cls(distinct, order, starts)

    @property
    def counts(self) -> Tensor:
        """(U,) number of lookups of each row."""
        return torch.diff(self.starts, append=self.starts.new_full((1,), len(self.order)))

    def sums(self, values: Tensor) -> Tensor:
        """Sum (N, K) values, one per lookup, to (U, K), one per distinct row.

        embedding_bag does what coalesce() does, without sorting again for every table.
        """
        if self.pieces is None:
            return embedding_bag(self.order, values, self.starts, mode="sum")
        partial = embedding_bag(self.order, values, self.pieces.starts, mode="sum")  # (P, K)
        in_order = torch.arange(len(partial), device=partial.device)
        return embedding_bag(in_order, partial, self.pieces.starts_of_rows, mode="sum")


def unique_rows_of(embedding: FieldEmbedding, ids: Tensor) -> UniqueRows:
    """Group the rows of a table that (B, S or more) ids of a batch look up."""
    if embedding.field_of_slot is None and ids.device.type == "cpu":
        return UniqueRows.from_columns(ids[:, : embedding.num_slots], embedding.offsets)
    return UniqueRows.from_ids(embedding.table_rows(ids))


def group_on_device(rows: Tensor) -> UniqueRows:
    """Group (N,) int64 rows with operations that a GPU runs in parallel; equal to UniqueRows.from_ids.

    Waits for the device, for the numbers of rows and of pieces: call it ahead of a step.
    """
    if not len(rows):
        return UniqueRows(rows, rows, rows)
    # A radix sort of 32 bit keys takes half the time.
    keys = rows.int() if rows.max() < 2**31 else rows
    sorted_rows, order = keys.sort(stable=True)
    is_first = torch.ones_like(sorted_rows, dtype=torch.bool)
    torch.ne(sorted_rows[1:], sorted_rows[:-1], out=is_first[1:])
    starts = is_first.nonzero().flatten()
    distinct = sorted_rows[starts].long()
    counts = torch.diff(starts, append=starts.new_full((1,), len(rows)))
    num_pieces = (counts + (PIECE_LENGTH - 1)) // PIECE_LENGTH  # of each row
    last_pieces = num_pieces.cumsum(0)
    first_pieces = last_pieces - num_pieces
    row_of_piece = torch.repeat_interleave(num_pieces, output_size=int(last_pieces[-1]))
    numbers = torch.arange(len(row_of_piece), device=rows.device) - first_pieces[row_of_piece]
    pieces = Pieces(starts[row_of_piece] + PIECE_LENGTH * numbers, first_pieces)
    return UniqueRows(distinct, order, starts, pieces)


def _group_columns(ids: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B, F), (F,) -> distinct rows, indices into the flattened (B, F) sorted by row, starts."""
    num_rows, num_columns = ids.shape
    if not ids.size:
        return _group(np.empty(0, np.int64))
    num_bits = max(num_rows - 1, 1).bit_length()
    # If id and index fit into 32 bits, sorting takes half the time.
    dtype = np.int32 if int(ids.max()) < 1 << (31 - num_bits) else np.int64
    keys: np.ndarray = ids.T.astype(dtype, order="C")  # (F, B)
    keys <<= num_bits
    keys |= np.arange(num_rows, dtype=dtype)
    keys.sort(axis=1)
    sorted_ids = keys >> num_bits
    is_first = np.ones(keys.shape, bool)
    np.not_equal(sorted_ids[:, 1:], sorted_ids[:, :-1], out=is_first[:, 1:])
    starts = np.flatnonzero(is_first)
    rows = sorted_ids.reshape(-1)[starts].astype(np.int64) + offsets[starts // num_rows]
    keys &= (1 << num_bits) - 1
    order = keys.astype(np.int64)
    order *= num_columns
    order += np.arange(num_columns)[:, None]
    return rows, order.reshape(-1), starts


def _group(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) -> distinct rows, indices sorted by row, starts.

    numpy, because a prefetch thread that uses torch would start as many threads as the training steps have,
    and because numpy sorts keys that hold row and index twice as fast as torch sorts with indices.
    """
    if not len(rows):
        return rows, rows.copy(), rows.copy()
    num_bits = max(len(rows) - 1, 1).bit_length()
    keys = rows << num_bits
    keys |= np.arange(len(rows))
    keys.sort()
    sorted_rows = keys >> num_bits
    keys &= (1 << num_bits) - 1
    starts = np.flatnonzero(np.diff(sorted_rows, prepend=sorted_rows[0] - 1))
    return sorted_rows[starts], keys, starts
