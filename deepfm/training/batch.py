"""Input of one training step."""

from typing import Protocol

from torch import Tensor


class Batch(Protocol):
    """One rank's share of a global batch; see also `batch_weights`."""

    @property
    def ids(self) -> Tensor:
        """(B, S) int64."""

    @property
    def x(self) -> Tensor | None:
        """(B, S) float32, value of each feature; None if all are 1."""

    @property
    def labels(self) -> Tensor:
        """(B,) float32."""

    @property
    def num_rows_all_ranks(self) -> int:
        """Number of rows of the global batch."""


def batch_weights(batch: Batch) -> Tensor | None:
    """(B,) float32, how many times each row counts, of the optional attribute `weights`; None: once."""
    weights: Tensor | None = getattr(batch, "weights", None)
    return weights
