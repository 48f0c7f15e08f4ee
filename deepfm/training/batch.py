"""Input of one training step."""

from typing import Protocol

from torch import Tensor


class Batch(Protocol):
    """One rank's share of a global batch."""

    ids: Tensor  # (B, S) int64
    x: Tensor | None  # (B, S) float32, value of each feature; None if all are 1
    labels: Tensor  # (B,) float32
    num_rows_all_ranks: int  # of the global batch
