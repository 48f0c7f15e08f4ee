"""The only door to the other workers; Horovod behind it, or nobody."""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor

_LOOK_EVERY_S = 0.0002


class Collectives(Protocol):
    """The workers that train together.

    Every rank must call the same methods with the same names, in the same order in each of its threads.
    """

    rank: int
    size: int
    gpu: int | None  # the GPU that Spark gave this worker, else its place on its host; None: CPU only

    def all_reduce_(self, tensors: list[Tensor], name: str) -> None:
        """Replace each tensor by its sum over all ranks, in place."""

    def all_reduce_async_(self, tensors: list[Tensor], name: str) -> Callable[[], None]:
        """Begin to do so -> what waits until it is done."""

    def all_gather_async(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        """Begin to gather -> what waits for the tensors of all ranks, one after another.

        Their first dimension may differ by rank.
        """

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        """Replace each tensor by rank 0's, in place."""


class SingleProcess:
    """One process by itself."""

    rank = 0
    size = 1
    gpu = 0

    def all_reduce_(self, tensors: list[Tensor], name: str) -> None:
        pass

    def all_reduce_async_(self, tensors: list[Tensor], name: str) -> Callable[[], None]:
        return lambda: None

    def all_gather_async(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        return lambda: tensor

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        pass


class HorovodCollectives:
    """The processes of one Horovod run; made once in each of them."""

    def __init__(self):
        import horovod.torch as hvd  # here: only a process that Horovod started can load and use it
        from horovod.spark.task import get_available_devices

        hvd.init()
        self._hvd = hvd
        self.rank, self.size = hvd.rank(), hvd.size()
        given = get_available_devices()  # Spark's task resource "gpu"
        self.gpu = int(given[0]) if given else hvd.local_rank()
        if not hvd.nccl_built():
            self.gpu = None  # Gloo alone does not take tensors that lie on a GPU

    def all_reduce_(self, tensors: list[Tensor], name: str) -> None:
        self.all_reduce_async_(tensors, name)()

    def all_reduce_async_(self, tensors: list[Tensor], name: str) -> Callable[[], None]:
        return partial(self._wait, self._hvd.grouped_allreduce_async_(tensors, op=self._hvd.Sum, name=name))

    def all_gather_async(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        return partial(self._wait, self._hvd.allgather_async(tensor, name=name))

    def _wait(self, handle: int):
        # Horovod's own wait spins: of two threads that wait and compute on one core, it takes half the core.
        while not self._hvd.poll(handle):
            time.sleep(_LOOK_EVERY_S)
        return self._hvd.synchronize(handle)

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        handles = [
            self._hvd.broadcast_async_(tensor, root_rank=0, name=f"{name}.{place}")
            for place, tensor in enumerate(tensors)
        ]
        for handle in handles:
            self._hvd.synchronize(handle)
