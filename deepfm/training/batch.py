"""What a step is given."""

from typing import Protocol

from torch import Tensor


class Batch(Protocol):
    """One rank's share of a global batch."""

    ids: Tensor  # (B, F) int64
    x: Tensor | None  # (B, F) float32, the value of each feature; None where all are 1
    labels: Tensor  # (B,) float32
    num_rows_all_ranks: int  # of the global batch
