"""Gradients summed over the ranks: dense ones in one all-reduce, tables by the rows that a step touches.

The ids of a batch say which rows those are, so that much is found and exchanged ahead of the step (`plan`),
while another step runs. In the step itself only numbers cross: each rank's rows, once each, gathered from all
ranks, or laid into the union of all ranks' rows and summed by an all-reduce, whichever moves fewer bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import Collectives
from deepfm.models.layers import FieldEmbedding
from deepfm.training.batch import Batch
from deepfm.training.optimizer import dense_weights, field_embeddings
from deepfm.training.unique_rows import UniqueRows, unique_rows_of

BatchT = TypeVar("BatchT", bound=Batch)
GradientCompression = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class RowExchange:
    """What the tables that are looked up by the same ids exchange in one step."""

    own: UniqueRows  # this rank's
    global_rows: UniqueRows | None  # of all ranks' rows, one rank after another; None: there is one rank
    by_all_reduce: bool

    @property
    def rows(self) -> Tensor:
        """(U,): those that move in the step, on every rank."""
        return self.own.rows if self.global_rows is None else self.global_rows.rows


#: By number of columns of ids: a wide part looks up crossed fields too.
RowExchanges = dict[int, RowExchange]


class GradientSynchronizer:
    """The gradients of one model, between the backward pass and the optimizer."""

    def __init__(
        self,
        model: nn.Module,
        collectives: Collectives,
        *,
        gradient_compression: GradientCompression = "fp32",
        l2: Iterable[tuple[FieldEmbedding, float]] = (),
    ):
        """Prepare the synchronization of `model`.

        `gradient_compression` applies to rows that are gathered; sums are always fp32.
        `l2`: penalty of each table, see layers.penalties.
        """
        self.collectives, self._gradient_compression = collectives, gradient_compression
        self._l2 = {id(embedding): strength for embedding, strength in l2}
        self._dense = dense_weights(model)
        self._by_slots: dict[int, list[FieldEmbedding]] = {}
        for embedding in field_embeddings(model):
            self._by_slots.setdefault(embedding.num_slots, []).append(embedding)
        self._sum_logloss: Tensor | None = None
        self._last_logloss: Tensor | None = None
        #: Set on rank 0 before a step; after it, as rank 0 had it, on every rank.
        self.wants_checkpoint = False
        self._finish_dense: Callable[[], float] | None = None
        self._num_ready = self._num_planned = 0
        if self.has_others:
            for weight in self._dense:
                weight.register_post_accumulate_grad_hook(self._ready)
        self.num_steps = self.dense_bytes = self.sparse_bytes = 0  # that this rank sent

    @property
    def sent_bytes_per_step(self) -> dict[str, int]:
        """By this rank: of dense gradients and of tables' rows, without the ids that went ahead."""
        num_steps = max(self.num_steps, 1)
        return {"dense": self.dense_bytes // num_steps, "sparse": self.sparse_bytes // num_steps}

    @property
    def rank(self) -> int:
        """This worker's."""
        return self.collectives.rank

    @property
    def has_others(self) -> bool:
        """Whether there are other ranks."""
        return self.collectives.size > 1

    def plan_exchange(self, ids: Tensor) -> RowExchanges:
        """(B, S) ids of this rank's batch. Every rank calls it for every step, in order, from any thread."""
        return self._start_exchange(ids)()

    def with_exchanges(self, batches: Iterable[BatchT]) -> Iterator[tuple[BatchT, RowExchanges]]:
        """Each batch with its plans, while the ids of the one after it travel."""
        waiting: tuple[BatchT, Callable[[], RowExchanges]] | None = None
        for batch in batches:
            following = batch, self._start_exchange(batch.ids)
            if waiting:
                yield waiting[0], waiting[1]()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1]()

    def _start_exchange(self, ids: Tensor) -> Callable[[], RowExchanges]:
        waits = {
            slots: self._start_exchange_of_tables(slots, tables, ids)
            for slots, tables in self._by_slots.items()
        }
        return lambda: {slots: wait() for slots, wait in waits.items()}

    def _start_exchange_of_tables(
        self, num_slots: int, embeddings: list[FieldEmbedding], ids: Tensor
    ) -> Callable[[], RowExchange]:
        own = unique_rows_of(embeddings[0], ids)
        if not self.has_others:
            return lambda: RowExchange(own, None, by_all_reduce=False)
        # Half the bytes, but for a table that is too long.
        rows = own.rows.int() if embeddings[0].table.num_embeddings < 2**31 else own.rows
        wait = self.collectives.all_gather_async(rows, self._name("rows", num_slots))
        return lambda: self._finish_exchange(own, wait().long())

    def _name(self, what: str, num_slots: int) -> str:
        # The ids of two batches may be on their way at once, under names of their own.
        self._num_planned += 1
        return f"{what}.{num_slots}.{self._num_planned % 4}"

    def _finish_exchange(self, own: UniqueRows, gathered: Tensor) -> RowExchange:
        global_rows = UniqueRows.of(gathered)
        # What this rank receives: with a gather all rows of the others, by a ring all-reduce nearly twice
        # the union.
        size, width = self.collectives.size, 2 if self._gradient_compression == "bf16" else 4
        of_gather = width * len(gathered) * (size - 1) / size
        of_all_reduce = 4 * 2 * len(global_rows.rows) * (size - 1) / size
        return RowExchange(own, global_rows, by_all_reduce=of_all_reduce < of_gather)

    def start(self, sum_logloss: Tensor) -> None:
        """Before the backward pass: (1,) loss of this rank's rows. Dense gradients leave during the pass."""
        self._sum_logloss, self._num_ready, self._finish_dense = sum_logloss, 0, None

    def _ready(self, weight: Tensor) -> None:
        self._num_ready += 1
        if self._sum_logloss is not None and self._num_ready == len(self._dense):
            self._finish_dense = self._start_dense()

    def _start_dense(self) -> Callable[[], float]:
        """Begin to sum loss and dense gradients -> what waits for the sums and gives them to the weights."""
        if not self.has_others:
            return self._sum_logloss.item
        # One buffer: Gloo takes half the time for it that it takes for a tensor a weight.
        kind = self._dense[0].dtype if self._dense else self._sum_logloss.dtype
        gradients = [weight.grad.flatten() for weight in self._dense]
        loss = self._sum_logloss.to(kind)
        wish = loss.new_tensor([float(self.wants_checkpoint and self.rank == 0)])
        buffer = torch.cat([loss, wish, *gradients])
        self.dense_bytes += self._ring_bytes(buffer.nbytes)
        wait = self.collectives.all_reduce_async_([buffer], "dense")

        def finish() -> float:
            wait()
            return self._assign_dense(buffer)

        return finish

    def synchronize(self, exchanges: RowExchanges, num_rows: int) -> float:
        """Replace each weight's gradient by its sum over all ranks -> the sum of their losses.

        The loss rides with the gradients: no rank goes on alone after a nan. `num_rows`: of the global batch.
        """
        finish_dense = self._finish_dense or self._start_dense()
        # Dense gradients travel while rows are summed, and rows of one table while those of another are.
        started = [self._start(slots, exchange, num_rows) for slots, exchange in exchanges.items()]
        sum_logloss = finish_dense()
        for slots, finish in zip(exchanges, started, strict=True):
            self._assign_gradients(self._by_slots[slots], exchanges[slots].rows, finish())
        self.num_steps += 1
        self._last_logloss, self._sum_logloss = self._sum_logloss, None
        return sum_logloss

    @property
    def local_loss_is_finite(self) -> bool:
        """Whether the loss of this rank's own rows in the last step is a number."""
        return bool(torch.isfinite(self._last_logloss))

    def describe_non_finite_ranks(self) -> str:
        """Whose loss of the last step is no number, to be told by all ranks; empty where there is one."""
        if not self.has_others:
            return ""
        own = torch.tensor([int(self.local_loss_is_finite)])
        are_finite = self.collectives.all_gather_async(own, "are finite")().tolist()
        bad = [str(rank) for rank, is_finite in enumerate(are_finite) if not is_finite]
        return f" (rank {', '.join(bad)} of {self.collectives.size})"

    def _start(self, num_slots: int, exchange: RowExchange, num_rows: int) -> Callable[[], Sequence[Tensor]]:
        """Begin to sum the rows of the tables of a plan -> what waits for the sums of each table."""
        own = [self._own_sums(embedding, exchange.own, num_rows) for embedding in self._by_slots[num_slots]]
        if exchange.global_rows is None:
            return lambda: own
        finish = self._start_rows(num_slots, exchange, torch.cat(own, dim=1))
        return lambda: finish().split([of_table.shape[1] for of_table in own], dim=1)

    def _start_rows(self, num_slots: int, exchange: RowExchange, values: Tensor) -> Callable[[], Tensor]:
        """As _start, with the rows of all tables side by side."""
        name = f"values.{num_slots}"
        if exchange.by_all_reduce:
            union = exchange.rows
            sums = values.new_zeros(len(union), values.shape[1])
            sums[torch.searchsorted(union, exchange.own.rows)] = values
            wait = self.collectives.all_reduce_async_([sums], name)
            self.sparse_bytes += self._ring_bytes(sums.nbytes)

            def finish_sum() -> Tensor:
                wait()
                return sums

            return finish_sum
        dtype = values.dtype
        if self._gradient_compression == "bf16":
            values = values.bfloat16().view(torch.int16)  # Horovod has no name for bfloat16
        wait = self.collectives.all_gather_async(values, name)
        self.sparse_bytes += values.nbytes * (self.collectives.size - 1)

        def finish() -> Tensor:
            gathered = wait()
            if self._gradient_compression == "bf16":
                gathered = gathered.view(torch.bfloat16).to(dtype)
            return exchange.global_rows.sums(gathered)

        return finish

    def _own_sums(self, embedding: FieldEmbedding, own: UniqueRows, num_rows: int) -> Tensor:
        """(U, K): the gradients of this rank's rows, their penalty included."""
        weight = embedding.table.weight
        values = own.sums(weight.grad._values())
        if strength := self._l2.get(id(embedding)):
            held_back = weight.detach().index_select(0, own.rows) * own.counts[:, None]
            values.add_(held_back, alpha=strength / num_rows)
        return values

    def _assign_dense(self, buffer: Tensor) -> float:
        of_loss, wish, *of_weights = buffer.split([1, 1, *(weight.numel() for weight in self._dense)])
        for weight, gradient in zip(self._dense, of_weights, strict=True):
            weight.grad = gradient.view_as(weight)
        self.wants_checkpoint = wish.item() > 0
        return of_loss.item()

    def _assign_gradients(
        self, embeddings: list[FieldEmbedding], rows: Tensor, values: Sequence[Tensor]
    ) -> None:
        for embedding, of_table in zip(embeddings, values, strict=True):
            embedding.table.weight.grad = torch.sparse_coo_tensor(
                rows[None], of_table, embedding.table.weight.shape, is_coalesced=True, check_invariants=False
            )

    def _ring_bytes(self, num_bytes: int) -> int:
        """What a rank sends to all-reduce a buffer of this size."""
        return round(2 * num_bytes * (self.collectives.size - 1) / self.collectives.size)
