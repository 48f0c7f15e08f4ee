"""Which rows of a table a batch looks up: known from its ids alone, so found before its step."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from deepfm.models.layers import FieldEmbedding


@dataclass(frozen=True)
class UniqueRows:
    """The distinct rows of N lookups, and the lookups of each."""

    rows: Tensor  # (U,) int64: ascending
    order: Tensor  # (N,) int64: places of the lookups, those of equal rows side by side
    starts: Tensor  # (U,) int64: where each row's places begin in `order`

    @classmethod
    def of(cls, rows: Tensor) -> "UniqueRows":
        """(N,) int64 rows; places of equal ones keep their order, so that sums are the same each time."""
        if rows.device.type != "cpu":
            in_order, order = rows.sort(stable=True)
            distinct, counts = torch.unique_consecutive(in_order, return_counts=True)
            return cls(distinct, order, counts.cumsum(0) - counts)
        return cls(*map(torch.from_numpy, _group(rows.numpy())))

    @classmethod
    def of_columns(cls, ids: Tensor, offsets: Tensor) -> "UniqueRows":
        """(B, F) ids on the CPU, and (F,) the row at which each column's rows begin -> the same, sooner.

        A column's rows all come after those of the column before it, so each is sorted by itself.
        """
        return cls(*map(torch.from_numpy, _group_columns(ids.numpy(), offsets.numpy())))

    @property
    def counts(self) -> Tensor:
        """(U,): how often each row is looked up."""
        return torch.diff(self.starts, append=self.starts.new_tensor([len(self.order)]))

    def sums(self, values: Tensor) -> Tensor:
        """(N, K), a row a lookup -> (U, K), a row a distinct one.

        A bag of embeddings is just that: what coalesce() does, without sorting again for every table.
        """
        return embedding_bag(self.order, values, self.starts, mode="sum")


def unique_rows_of(embedding: FieldEmbedding, ids: Tensor) -> UniqueRows:
    """Those of a batch's (B, S or more) ids in a table."""
    if embedding.field_of_slot is None and ids.device.type == "cpu":
        return UniqueRows.of_columns(ids[:, : embedding.num_slots], embedding.offsets)
    return UniqueRows.of(embedding.table_rows(ids))


def _group_columns(ids: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B, F), (F,) -> distinct rows, places by row in the flattened (B, F), starts."""
    num_rows, num_columns = ids.shape
    if not ids.size:
        return _group(np.empty(0, np.int64))
    num_bits = max(num_rows - 1, 1).bit_length()
    # Numbers of half the bytes are sorted in half the time, where id and place fit.
    kind = np.int32 if int(ids.max()) < 1 << (31 - num_bits) else np.int64
    keys = ids.T.astype(kind, order="C")  # (F, B)
    keys <<= num_bits
    keys |= np.arange(num_rows, dtype=kind)
    keys.sort(axis=1)
    of_row = keys >> num_bits
    is_first = np.ones(keys.shape, bool)
    np.not_equal(of_row[:, 1:], of_row[:, :-1], out=is_first[:, 1:])
    starts = np.flatnonzero(is_first)
    rows = of_row.reshape(-1)[starts].astype(np.int64) + offsets[starts // num_rows]
    keys &= (1 << num_bits) - 1
    order = keys.astype(np.int64)
    order *= num_columns
    order += np.arange(num_columns)[:, None]
    return rows, order.reshape(-1), starts


def _group(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) -> distinct rows, places by row, starts.

    By numpy: a thread that works ahead by torch would start as many threads of its own as the steps have,
    and numpy sorts numbers that hold row and place twice as fast as torch sorts with places.
    """
    if not len(rows):
        return rows, rows.copy(), rows.copy()
    num_bits = max(len(rows) - 1, 1).bit_length()
    keys = rows << num_bits
    keys |= np.arange(len(rows))
    keys.sort()
    in_order = keys >> num_bits
    keys &= (1 << num_bits) - 1
    starts = np.flatnonzero(np.diff(in_order, prepend=in_order[0] - 1))
    return in_order[starts], keys, starts
