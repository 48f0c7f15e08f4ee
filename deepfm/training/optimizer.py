"""Optimizers: dense weights are updated densely, tables only in the rows of a batch."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from deepfm.models.layers import FieldEmbedding
from deepfm.training.device import use_large_pages
from deepfm.training.ftrl import Ftrl


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
    ):
        """Create the optimizers.

        `table_learning_rate` defaults to `learning_rate`; `table_l2` is the weight decay of adam_dense,
        applied to all rows in every step; `ftrl` has beta, l1 and l2 of Ftrl.
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
            self._optimizers.append(_table_optimizer(kind, self.sparse, table_rate, table_l2))
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


def _table_optimizer(
    kind: str, weights: list[nn.Parameter], learning_rate: float, table_l2: float
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


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) on the rows of sparse gradients; all other rows are unchanged.

    The rows of a batch and their moments are gathered, updated by torch's fused Adam, and written back. As in
    the paper, epsilon is added to the corrected root; torch's SparseAdam adds it before the correction, so
    its first steps are shorter when gradients are near epsilon.
    """

    def __init__(
        self, weights: Iterable[Tensor], lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps=1e-8
    ):
        super().__init__(weights, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override] # no closures
        for group in self.param_groups:
            (beta1, beta2), eps = group["betas"], group["eps"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = 0
                    for moment in ("exp_avg", "exp_avg_sq"):
                        state[moment] = use_large_pages(torch.zeros_like(weight))
                rows, g = _rows_of(weight.grad)
                tensors = (weight, state["exp_avg"], state["exp_avg_sq"])
                w, m, v = (tensor.index_select(0, rows) for tensor in tensors)
                num_steps = torch.tensor(float(state["step"]), device=rows.device)  # before this step
                adam(
                    [w], [g.contiguous()], [m], [v], [], [num_steps],
                    fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
                    lr=group["lr"], beta1=beta1, beta2=beta2, eps=eps,
                )  # fmt: skip
                state["step"] += 1
                for tensor, updated in zip(tensors, (w, m, v), strict=True):
                    tensor.index_copy_(0, rows, updated)


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad with one sum of squares per row instead of one per weight, for sparse gradients.

    With g the gradient of a row:  n += mean of g^2,  w -= lr g / (sqrt(n) + eps)  (J. Duchi et al. 2011; row-
    wise in D. Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning
    Recommendation Models", 2022, sec. 4.1). Its state is K times smaller than Adagrad's and 2 K times smaller
    than Adam's, and only the rows of the batch are touched.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, *, eps: float = 1e-10):
        super().__init__(weights, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override] # no closures
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    n = torch.zeros(len(weight), 1, dtype=weight.dtype, device=weight.device)
                    state["n"] = use_large_pages(n)
                rows, values = _rows_of(weight.grad)
                mean_square = (
                    torch.linalg.vector_norm(values, dim=1, keepdim=True).square_() / values.shape[1]
                )
                n = mean_square.add_(state["n"].index_select(0, rows))
                state["n"].index_copy_(0, rows, n)
                w = weight.index_select(0, rows)
                w.addcdiv_(values, n.sqrt().add_(group["eps"]), value=-group["lr"])
                weight.index_copy_(0, rows, w)


def _rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(U,) distinct rows and (U, K) values of a sparse gradient."""
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()


def field_embeddings(model: nn.Module) -> list[FieldEmbedding]:
    """All embeddings of the model, in its order."""
    return [module for module in model.modules() if isinstance(module, FieldEmbedding)]


def tables(model: nn.Module) -> list[nn.Parameter]:
    """All tables: the weights with sparse gradients."""
    return [cast(nn.Parameter, embedding.table.weight) for embedding in field_embeddings(model)]


def dense_weights(model: nn.Module) -> list[nn.Parameter]:
    """All other weights, in the order of the model."""
    sparse: Iterable[int] = {id(weight) for weight in tables(model)}
    return [weight for weight in model.parameters() if id(weight) not in sparse]


def gradient_of(weight: Tensor) -> Tensor:
    """Gradient of a weight that the last backward pass has reached."""
    assert weight.grad is not None
    return weight.grad
