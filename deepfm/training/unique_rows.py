"""Unique rows of a table among the lookups of a batch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from deepfm.models.layers import FieldEmbedding


@dataclass(frozen=True)
class UniqueRows:
    """The U distinct rows of N lookups, and the lookups of each row."""

    rows: Tensor  # (U,) int64, ascending
    order: Tensor  # (N,) int64: indices of the lookups, sorted by row
    starts: Tensor  # (U,) int64: where the lookups of each row start in `order`

    @classmethod
    def from_ids(cls, rows: Tensor) -> "UniqueRows":
        """Group (N,) int64 rows; equal rows keep their order, so that sums are reproducible."""
        if rows.device.type != "cpu":
            sorted_rows, order = rows.sort(stable=True)
            distinct, counts = torch.unique_consecutive(sorted_rows, return_counts=True)
            return cls(distinct, order, counts.cumsum(0) - counts)
        return cls(*map(torch.from_numpy, _group(rows.numpy())))

    @classmethod
    def from_columns(cls, ids: Tensor, offsets: Tensor) -> "UniqueRows":
        """Group (B, F) ids on the CPU, faster than `from_ids`; `offsets`: (F,) first row of each column.

        The rows of a column all follow those of the column before it, so each column is sorted by itself.
        """
        return cls(*map(torch.from_numpy, _group_columns(ids.numpy(), offsets.numpy())))

    @property
    def counts(self) -> Tensor:
        """(U,) number of lookups of each row."""
        return torch.diff(self.starts, append=self.starts.new_tensor([len(self.order)]))

    def sums(self, values: Tensor) -> Tensor:
        """Sum (N, K) values, one per lookup, to (U, K), one per distinct row.

        embedding_bag does what coalesce() does, without sorting again for every table.
        """
        return embedding_bag(self.order, values, self.starts, mode="sum")


def unique_rows_of(embedding: FieldEmbedding, ids: Tensor) -> UniqueRows:
    """Group the rows of a table that (B, S or more) ids of a batch look up."""
    if embedding.field_of_slot is None and ids.device.type == "cpu":
        return UniqueRows.from_columns(ids[:, : embedding.num_slots], embedding.offsets)
    return UniqueRows.from_ids(embedding.table_rows(ids))


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
