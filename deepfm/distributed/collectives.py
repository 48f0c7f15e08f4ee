"""Collective operations between the workers of one training: Horovod's, or none for a single process."""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor

_POLL_EVERY_S = 0.0002


class Collectives(Protocol):
    """Collective operations of the workers that train together.

    Every rank must call the same operations with the same names, in the same order within each thread.
    """

    rank: int
    size: int
    gpu: int | None  # GPU that Spark assigned to this worker, else its local rank; None: CPU only

    def all_reduce_(self, tensors: list[Tensor], name: str) -> None:
        """Replace each tensor by its sum over all ranks, in place."""

    def all_reduce_async_(self, tensors: list[Tensor], name: str) -> Callable[[], None]:
        """Start all_reduce_ and return a function that waits for it."""

    def all_gather_async(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        """Start to gather a tensor; the returned function waits for the concatenated tensors of all ranks.

        Their first dimension may differ by rank.
        """

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        """Replace each tensor by that of rank 0, in place."""


class SingleProcess:
    """Collectives of a single process: every operation returns its input."""

    rank = 0
    size = 1
    gpu: int | None = 0

    def all_reduce_(self, tensors: list[Tensor], name: str) -> None:
        pass

    def all_reduce_async_(self, tensors: list[Tensor], name: str) -> Callable[[], None]:
        return lambda: None

    def all_gather_async(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        return lambda: tensor

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        pass


class HorovodCollectives:
    """Collectives of the processes of one Horovod run; created once in each of them."""

    def __init__(self):
        # Imported here: the library can only be used in a process that Horovod started.
        import horovod.torch as hvd
        from horovod.spark.task import get_available_devices

        hvd.init()
        self._hvd = hvd
        self.rank, self.size = hvd.rank(), hvd.size()
        devices = get_available_devices()  # Spark's task resource "gpu"
        self.gpu = int(devices[0]) if devices else hvd.local_rank()
        if not hvd.nccl_built():
            self.gpu = None  # Gloo alone does not accept GPU tensors

    def all_reduce_(self, tensors: list[Tensor], name: str) -> None:
        self.all_reduce_async_(tensors, name)()

    def all_reduce_async_(self, tensors: list[Tensor], name: str) -> Callable[[], None]:
        return partial(self._wait, self._hvd.grouped_allreduce_async_(tensors, op=self._hvd.Sum, name=name))

    def all_gather_async(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        return partial(self._wait, self._hvd.allgather_async(tensor, name=name))

    def _wait(self, handle: int):
        # Horovod's own wait spins: with one waiting and one computing thread on a core it takes half the
        # core.
        while not self._hvd.poll(handle):
            time.sleep(_POLL_EVERY_S)
        return self._hvd.synchronize(handle)

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        handles = [
            self._hvd.broadcast_async_(tensor, root_rank=0, name=f"{name}.{index}")
            for index, tensor in enumerate(tensors)
        ]
        for handle in handles:
            self._hvd.synchronize(handle)
