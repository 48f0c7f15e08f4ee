"""Loss of a step, on its way from the device to the host."""

import math

import torch
from torch import Tensor


class StepLoss:
    """Loss of one step; on a GPU it is copied while later steps run, so that no step waits for the host."""

    def __init__(self, local: Tensor, over_all_ranks: Tensor, wants_checkpoint: bool | Tensor):
        """Start to copy the values.

        `local`: (1,) summed logloss of this rank's rows; `over_all_ranks`: (1,), the sum over all ranks.
        `wants_checkpoint`: whether rank 0 asked for a checkpoint, or (1,) positive if it did.
        """
        values = [local, over_all_ranks]
        self._asked = False
        if isinstance(wants_checkpoint, Tensor):
            values.append(wants_checkpoint)
        else:
            self._asked = wants_checkpoint
        self._values = torch.cat([value.double() for value in values])
        self._copied: torch.cuda.Event | None = None
        if self._values.is_cuda:
            on_host = torch.empty(self._values.shape, dtype=self._values.dtype, pin_memory=True)
            self._values = on_host.copy_(self._values, non_blocking=True)
            # Blocking: waiting threads must not take cores from the loader.
            self._copied = torch.cuda.Event(blocking=True)
            self._copied.record()

    def _read(self, index: int) -> float:
        if self._copied is not None:
            self._copied.synchronize()
        return self._values[index].item()

    @property
    def sum_logloss(self) -> float:
        """Logloss summed over the rows of all ranks, the same on every rank."""
        return self._read(1)

    @property
    def local_is_finite(self) -> bool:
        """Whether the loss of this rank's rows is finite."""
        return math.isfinite(self._read(0))

    @property
    def wants_checkpoint(self) -> bool:
        """Whether rank 0 asked for a checkpoint when this step started."""
        return self._asked or (len(self._values) > 2 and self._read(2) > 0)
