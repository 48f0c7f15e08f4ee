"""Sparse gradients of the tables, a row once: summed over a batch's lookups, then over the ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from deepfm.training.world import World


@dataclass(frozen=True)
class Lookups:
    """Which row of a table each of N lookups took, grouped by row."""

    ids: Tensor  # (N,) int64, in any order
    rows: Tensor  # (U,) int64: the distinct ids, ascending
    order: Tensor  # (N,) int64: places of the lookups, those of equal rows side by side
    starts: Tensor  # (U,) int64: where each row's places begin in `order`

    @classmethod
    def of(cls, ids: Tensor) -> "Lookups":
        """(N,) ids; places of equal ones keep their order, so that sums are the same each time."""
        in_order, order = ids.sort(stable=True)
        rows, counts = torch.unique_consecutive(in_order, return_counts=True)
        return cls(ids, rows, order, counts.cumsum(0) - counts)

    def sums(self, values: Tensor) -> Tensor:
        """(N, K), a row a lookup -> (U, K), a row a distinct id.

        A bag of embeddings is just that: what coalesce() does, without sorting again for every table.
        """
        return embedding_bag(self.order, values, self.starts, mode="sum")


def sum_row_gradients(world: World, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Sparse (rows, K) gradients, one a table -> their sums over all ranks, coalesced.

    Each rank sends the rows its batch has, once each. Tables that were looked up with the same ids, as
    first-order weights and embeddings are, share the sorting and the exchange of ids.
    """
    summed: list[Tensor] = []
    own: Lookups | None = None
    everyones: Lookups | None = None
    for place, gradient in enumerate(gradients):
        ids = gradient._indices()[0]
        if own is None or not torch.equal(ids, own.ids):
            own, everyones = Lookups.of(ids), None
        rows, values = own.rows, own.sums(gradient._values())
        if world.size > 1:
            if everyones is None:
                everyones = Lookups.of(world.gather_rows(own.rows, f"table.{place}.ids"))
            rows = everyones.rows
            values = everyones.sums(world.gather_rows(values, f"table.{place}.rows"))
        summed.append(
            torch.sparse_coo_tensor(
                rows[None], values, gradient.shape, is_coalesced=True, check_invariants=False
            )
        )
    return summed
