"""Optimizers: dense weights are updated densely, tables only in the rows of a batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.training.device import use_large_pages
from deepfm.training.optimizers.ftrl import Ftrl
from deepfm.training.optimizers.lazy_adam import LazyAdam
from deepfm.training.optimizers.row_adagrad import RowAdagrad
from deepfm.training.optimizers.weights import dense_weights, field_embeddings, gradient_of, tables

#: Factors of the learning rates of table rows, (rows of the table,), by the number of id columns.
RowRates = Mapping[int, Tensor]


class Optimizer:
    """The optimizer of a model: one for dense weights and one for tables, stepped together.

    `kind` chooses the optimizer of the tables. "adam": LazyAdam, which leaves the moments of rows outside the
    batch unchanged. "adam_dense": Adam as published, which decays all moments, moves all rows, and costs time
    proportional to the table size. "adagrad": RowAdagrad. Dense weights use Adam with all three. "ftrl": Ftrl
    for all weights.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        *,
        table_learning_rate: float | None = None,
        kind: str = "adam",
        table_l2: float = 0.0,
        ftrl: Mapping[str, float] | None = None,
        row_rates: RowRates | None = None,
    ):
        """Create the optimizers.

        `table_learning_rate` defaults to `learning_rate`; `table_l2` is the weight decay of adam_dense,
        applied to all rows in every step; `ftrl` has beta, l1 and l2 of Ftrl; `row_rates`, for adam and
        adagrad: factors of the learning rates of table rows.
        """
        self.sparse, self.dense = tables(model), dense_weights(model)
        for table in self.sparse:
            use_large_pages(table.data)
        self._names = {id(weight): name for name, weight in model.named_parameters()}
        self._to_dense = kind == "adam_dense"
        table_rate = table_learning_rate or learning_rate
        self._optimizers: list[torch.optim.Optimizer] = []
        if kind == "ftrl":
            self._optimizers = [Ftrl([*self.sparse, *self.dense], lr=learning_rate, **(ftrl or {}))]
            return
        if self.sparse:
            groups = _table_groups(model, row_rates)
            self._optimizers.append(_table_optimizer(kind, groups, table_rate, table_l2))
        if self.dense:
            self._optimizers.append(torch.optim.Adam(self.dense, lr=learning_rate, fused=True))

    def set_rate(self, factor: float) -> None:
        """Multiply the configured learning rates by `factor` for the next step."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("full_lr", group["lr"])

    def zero_grad(self) -> None:
        """Discard the gradients of the last step."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Optimizer state by "WEIGHT/NAME": moments in the shape of the weight, and step counts."""
        return {
            f"{self._names[id(weight)]}/{name}": torch.as_tensor(value)
            for optimizer in self._optimizers
            for weight, state in optimizer.state.items()
            for name, value in state.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; weights that it does not name start without state."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    prefix = f"{self._names[id(weight)]}/"
                    values = {
                        key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)
                    }
                    if values:
                        optimizer.state[weight] = {k: _to_state(optimizer, v) for k, v in values.items()}

    def refit_state_to_weights(self) -> None:
        """Make the state consistent with the weights, which may come from elsewhere (only FTRL needs it)."""
        for optimizer in self._optimizers:
            if isinstance(optimizer, Ftrl):
                optimizer.fit_to_weights()

    def step(self) -> None:
        """Update the weights from their gradients."""
        if self._to_dense:
            for table in self.sparse:
                table.grad = gradient_of(table).to_dense()
        for optimizer in self._optimizers:
            optimizer.step()


def _table_groups(model: nn.Module, row_rates: RowRates | None) -> list[dict[str, Any]]:
    """Parameter groups of the tables: one each with row rates, else one for all."""
    if row_rates is None:
        return [{"params": tables(model)}]
    return [
        {"params": [embedding.table.weight], "row_rates": row_rates[embedding.num_slots]}
        for embedding in field_embeddings(model)
    ]


def _table_optimizer(
    kind: str, weights: list[dict[str, Any]], learning_rate: float, table_l2: float
) -> torch.optim.Optimizer:
    match kind:
        case "adam":
            return LazyAdam(weights, lr=learning_rate)
        case "adam_dense":
            return torch.optim.Adam(weights, lr=learning_rate, weight_decay=table_l2, fused=True)
        case "adagrad":
            return RowAdagrad(weights, lr=learning_rate)
    raise AssertionError(f"unknown optimizer: {kind}")


def _to_state(optimizer: torch.optim.Optimizer, value: Tensor) -> Tensor | int:
    # LazyAdam keeps its step count as an int, Adam as a tensor.
    is_count = isinstance(optimizer, LazyAdam) and not value.dim()
    return int(value) if is_count else use_large_pages(value.clone())
