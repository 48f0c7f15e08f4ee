"""Gradient synchronization between ranks: dense gradients in one all-reduce, tables by the rows of a batch.

The ids of a batch determine which rows of the tables it touches, so ranks exchange row numbers ahead of a
step, while another step is computed (`plan_exchange`). Within the step only values are sent: each rank's
rows, once each, are either gathered from all ranks, or scattered into the union of all ranks' rows and summed
by an all-reduce, whichever sends fewer bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import Collectives
from deepfm.models.layers import FieldEmbedding
from deepfm.training.batch import Batch
from deepfm.training.optimizers.weights import dense_weights, field_embeddings, gradient_of
from deepfm.training.step_loss import StepLoss
from deepfm.training.unique_rows import UniqueRows, unique_rows_of

BatchT = TypeVar("BatchT", bound=Batch)
GradientCompression = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class RowExchange:
    """Rows that the tables with the same ids exchange in one step."""

    local: UniqueRows  # of this rank
    gathered: UniqueRows | None  # of the rows of all ranks, concatenated by rank; None: a single rank
    by_all_reduce: bool

    @property
    def rows(self) -> Tensor:
        """(U,) rows that the step changes, on every rank."""
        return self.local.rows if self.gathered is None else self.gathered.rows


#: By the number of id columns: a wide part also looks up crossed fields.
RowExchanges = dict[int, RowExchange]


class GradientSynchronizer:
    """Sums the gradients of one model over all ranks, between the backward pass and the optimizer."""

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
        self.collectives, self._compression = collectives, gradient_compression
        self._l2 = {id(embedding): strength for embedding, strength in l2}
        self._dense = dense_weights(model)
        self._tables_by_slots: dict[int, list[FieldEmbedding]] = {}
        for embedding in field_embeddings(model):
            self._tables_by_slots.setdefault(embedding.num_slots, []).append(embedding)
        self._sum_logloss: Tensor | None = None
        #: Set on rank 0 before a step, whose StepLoss has the value of rank 0 on every rank.
        self.wants_checkpoint = False
        self._finish_dense: Callable[[], StepLoss] | None = None
        self._num_ready = self._num_exchanges = 0
        if self.has_others:
            for weight in self._dense:
                weight.register_post_accumulate_grad_hook(self._on_gradient_ready)
        self.num_steps = self.dense_bytes = self.sparse_bytes = 0  # sent by this rank

    @property
    def sent_bytes_per_step(self) -> dict[str, int]:
        """Bytes this rank sent per step: dense gradients and table rows, without row numbers."""
        num_steps = max(self.num_steps, 1)
        return {"dense": self.dense_bytes // num_steps, "sparse": self.sparse_bytes // num_steps}

    @property
    def rank(self) -> int:
        """Rank of this worker."""
        return self.collectives.rank

    @property
    def has_others(self) -> bool:
        """Whether there are other ranks."""
        return self.collectives.size > 1

    def plan_exchange(self, ids: Tensor) -> RowExchanges:
        """Exchange the rows of (B, S) ids of this rank's batch.

        Every rank calls it for every step, in order, from any thread.
        """
        return self._start_exchange(ids)()

    def with_exchanges(self, batches: Iterable[BatchT]) -> Iterator[tuple[BatchT, RowExchanges]]:
        """Yield each batch with its exchanges, while the rows of the next batch are being exchanged."""
        pending: tuple[BatchT, Callable[[], RowExchanges]] | None = None
        for batch in batches:
            following = batch, self._start_exchange(batch.ids)
            if pending:
                yield pending[0], pending[1]()
            pending = following
        if pending:
            yield pending[0], pending[1]()

    def _start_exchange(self, ids: Tensor) -> Callable[[], RowExchanges]:
        waits = {
            slots: self._start_table_exchange(slots, tables, ids)
            for slots, tables in self._tables_by_slots.items()
        }
        return lambda: {slots: wait() for slots, wait in waits.items()}

    def _start_table_exchange(
        self, num_slots: int, embeddings: list[FieldEmbedding], ids: Tensor
    ) -> Callable[[], RowExchange]:
        local = unique_rows_of(embeddings[0], ids)
        if not self.has_others:
            return lambda: RowExchange(local, None, by_all_reduce=False)
        # int32 halves the bytes, unless the table is too long for it.
        rows = local.rows.int() if embeddings[0].table.num_embeddings < 2**31 else local.rows
        wait = self.collectives.all_gather_async(rows, self._exchange_name("rows", num_slots))
        return lambda: self._finish_table_exchange(local, wait().long())

    def _exchange_name(self, prefix: str, num_slots: int) -> str:
        # The rows of two batches can be in flight at once and need different names.
        self._num_exchanges += 1
        return f"{prefix}.{num_slots}.{self._num_exchanges % 4}"

    def _finish_table_exchange(self, local: UniqueRows, all_rows: Tensor) -> RowExchange:
        gathered = UniqueRows.from_ids(all_rows)
        # Bytes this rank receives: all rows of the others by a gather, nearly twice the union by a ring
        # all-reduce.
        size, width = self.collectives.size, 2 if self._compression == "bf16" else 4
        gather_bytes = width * len(all_rows) * (size - 1) / size
        all_reduce_bytes = 4 * 2 * len(gathered.rows) * (size - 1) / size
        return RowExchange(local, gathered, by_all_reduce=all_reduce_bytes < gather_bytes)

    def start(self, sum_logloss: Tensor) -> None:
        """Prepare for the backward pass of (1,) `sum_logloss`, during which dense gradients are sent."""
        self._sum_logloss, self._num_ready, self._finish_dense = sum_logloss, 0, None

    def _on_gradient_ready(self, weight: Tensor) -> None:
        self._num_ready += 1
        if self._sum_logloss is not None and self._num_ready == len(self._dense):
            self._finish_dense = self._start_dense()

    def _start_dense(self) -> Callable[[], StepLoss]:
        """Start to sum loss and dense gradients; the result waits, assigns them and returns the loss."""
        assert self._sum_logloss is not None
        if not self.has_others:
            return partial(StepLoss, self._sum_logloss, self._sum_logloss, self.wants_checkpoint)
        # One buffer takes Gloo half the time of one tensor per weight.
        dtype = self._dense[0].dtype if self._dense else self._sum_logloss.dtype
        gradients = [gradient_of(weight).flatten() for weight in self._dense]
        loss = self._sum_logloss.to(dtype)
        checkpoint_flag = loss.new_full((1,), float(self.wants_checkpoint and self.rank == 0))
        buffer = torch.cat([loss, checkpoint_flag, *gradients])
        self.dense_bytes += self._ring_bytes(buffer.nbytes)
        wait = self.collectives.all_reduce_async_([buffer], "dense")

        local = self._sum_logloss

        def finish() -> StepLoss:
            wait()
            return self._assign_dense(local, buffer)

        return finish

    def synchronize(self, exchanges: RowExchanges, num_rows: int) -> StepLoss:
        """Replace each gradient by its sum over all ranks and return the loss.

        The loss is sent with the gradients, so that every rank sees a NaN. `num_rows`: of the global batch.
        """
        finish_dense = self._finish_dense or self._start_dense()
        # Dense gradients are in flight while rows are summed, and rows of one table while those of another
        # are.
        waits = [self._start_rows(slots, exchange, num_rows) for slots, exchange in exchanges.items()]
        loss = finish_dense()
        for slots, wait in zip(exchanges, waits, strict=True):
            self._assign_gradients(self._tables_by_slots[slots], exchanges[slots].rows, wait())
        self.num_steps += 1
        self._sum_logloss = None
        return loss

    def describe_non_finite_ranks(self, loss: StepLoss) -> str:
        """Name the ranks whose loss is not finite; called on all ranks, empty for a single process."""
        if not self.has_others:
            return ""
        local = torch.tensor([int(loss.local_is_finite)])
        are_finite = self.collectives.all_gather_async(local, "are finite")().tolist()
        bad = [str(rank) for rank, is_finite in enumerate(are_finite) if not is_finite]
        return f" (rank {', '.join(bad)} of {self.collectives.size})"

    def _start_rows(
        self, num_slots: int, exchange: RowExchange, num_rows: int
    ) -> Callable[[], Sequence[Tensor]]:
        """Start to sum the rows of the tables of an exchange; the result waits for the sums of each table."""
        tables = self._tables_by_slots[num_slots]
        local = [self._local_sums(embedding, exchange.local, num_rows) for embedding in tables]
        if exchange.gathered is None:
            return lambda: local
        wait = self._start_values(num_slots, exchange, torch.cat(local, dim=1))
        return lambda: wait().split([values.shape[1] for values in local], dim=1)

    def _start_values(self, num_slots: int, exchange: RowExchange, values: Tensor) -> Callable[[], Tensor]:
        """Start to sum (U, K) values of this rank's rows over ranks, all tables concatenated along K."""
        name = f"values.{num_slots}"
        if exchange.by_all_reduce:
            sums = values.new_zeros(len(exchange.rows), values.shape[1])
            sums[torch.searchsorted(exchange.rows, exchange.local.rows)] = values
            wait = self.collectives.all_reduce_async_([sums], name)
            self.sparse_bytes += self._ring_bytes(sums.nbytes)

            def finish_all_reduce() -> Tensor:
                wait()
                return sums

            return finish_all_reduce
        dtype = values.dtype
        if self._compression == "bf16":
            values = values.bfloat16().view(torch.int16)  # Horovod has no bfloat16
        wait_for_all = self.collectives.all_gather_async(values, name)
        self.sparse_bytes += values.nbytes * (self.collectives.size - 1)

        def finish_gather() -> Tensor:
            assert exchange.gathered is not None
            gathered = wait_for_all()
            if self._compression == "bf16":
                gathered = gathered.view(torch.bfloat16).to(dtype)
            return exchange.gathered.sums(gathered)

        return finish_gather

    def _local_sums(self, embedding: FieldEmbedding, local: UniqueRows, num_rows: int) -> Tensor:
        """(U, K) gradients of this rank's rows, with their L2 penalty."""
        weight = embedding.table.weight
        values = local.sums(gradient_of(weight)._values())
        if strength := self._l2.get(id(embedding)):
            penalized = weight.detach().index_select(0, local.rows) * local.counts[:, None]
            values.add_(penalized, alpha=strength / num_rows)
        return values

    def _assign_dense(self, local_logloss: Tensor, buffer: Tensor) -> StepLoss:
        loss, checkpoint_flag, *gradients = buffer.split([1, 1, *(weight.numel() for weight in self._dense)])
        for weight, gradient in zip(self._dense, gradients, strict=True):
            weight.grad = gradient.view_as(weight)
        return StepLoss(local_logloss, loss, checkpoint_flag)

    def _assign_gradients(
        self, embeddings: list[FieldEmbedding], rows: Tensor, values: Sequence[Tensor]
    ) -> None:
        for embedding, table_values in zip(embeddings, values, strict=True):
            embedding.table.weight.grad = torch.sparse_coo_tensor(
                rows[None],
                table_values,
                embedding.table.weight.shape,
                is_coalesced=True,
                check_invariants=False,
            )

    def _ring_bytes(self, num_bytes: int) -> int:
        """Bytes that a rank sends in a ring all-reduce of a buffer of this size."""
        return round(2 * num_bytes * (self.collectives.size - 1) / self.collectives.size)
