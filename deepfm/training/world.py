"""The only door to the other workers; Horovod behind it, or nobody."""

from typing import Protocol

from torch import Tensor


class World(Protocol):
    """The workers that train together. Every rank must call the same methods in the same order."""

    rank: int
    size: int
    gpu: int | None  # the GPU that Spark gave this worker, else its place on its host; None: CPU only

    def sum_(self, tensors: list[Tensor], name: str) -> None:
        """Replace each tensor by its sum over all ranks, in place."""

    def gather_rows(self, tensor: Tensor, name: str) -> Tensor:
        """The tensors of all ranks, one after another; their first dimension may differ by rank."""

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        """Replace each tensor by rank 0's, in place."""


class SingleWorld:
    """One process by itself."""

    rank = 0
    size = 1
    gpu = 0

    def sum_(self, tensors: list[Tensor], name: str) -> None:
        pass

    def gather_rows(self, tensor: Tensor, name: str) -> Tensor:
        return tensor

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        pass


class HorovodWorld:
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

    def sum_(self, tensors: list[Tensor], name: str) -> None:
        self._hvd.grouped_allreduce_(tensors, op=self._hvd.Sum, name=name)

    def gather_rows(self, tensor: Tensor, name: str) -> Tensor:
        return self._hvd.allgather(tensor, name=name)

    def broadcast_(self, tensors: list[Tensor], name: str) -> None:
        handles = [
            self._hvd.broadcast_async_(tensor, root_rank=0, name=f"{name}.{place}")
            for place, tensor in enumerate(tensors)
        ]
        for handle in handles:
            self._hvd.synchronize(handle)
