"""Adam or FTRL: dense weights densely, tables row by row, so that a step costs what the batch touches."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from deepfm.models.layers import FieldEmbedding
from deepfm.training.device import use_large_pages
from deepfm.training.ftrl import Ftrl


class Optimizer:
    """Two optimizers that step as one: of the dense weights and of the tables.

    By its kind, tables take LazyAdam (adam): the moments of a row that is not in the batch
    stay as they are; Adam as published (adam_dense), which decays them and keeps moving the row, and costs as
    much as the tables are large; or RowAdagrad (adagrad). Dense weights take Adam with all three. Ftrl (ftrl)
    trains all weights.
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
        """`table_learning_rate`: `learning_rate` where it is None; `table_l2`: of adam_dense, on all rows in
        every step; `ftrl`: beta, l1 and l2 of Ftrl."""
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
            self._optimizers.append(_of_tables(kind, self.sparse, table_rate, table_l2))
        if self.dense:
            self._optimizers.append(torch.optim.Adam(self.dense, lr=learning_rate, fused=True))

    def set_rate(self, factor: float) -> None:
        """Let the next step be taken with the learning rates times `factor`."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("full_lr", group["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """What it remembers of each weight, as WEIGHT/WHAT: moments of its shape, numbers of steps."""
        return {
            f"{self._names[id(weight)]}/{what}": torch.as_tensor(value)
            for optimizer in self._optimizers
            for weight, of_weight in optimizer.state.items()
            for what, value in of_weight.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave; weights it does not name begin anew."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    prefix = f"{self._names[id(weight)]}/"
                    found = {
                        key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)
                    }
                    if found:
                        optimizer.state[weight] = {k: _as_held(optimizer, v) for k, v in found.items()}

    def refit_state_to_weights(self) -> None:
        """Go on from the weights as they are, with what is remembered fitted to them where it must be."""
        for optimizer in self._optimizers:
            if isinstance(optimizer, Ftrl):
                optimizer.fit_to_weights()

    def step(self) -> None:
        """Move the weights against their gradients."""
        if self._to_dense:
            for table in self.sparse:
                table.grad = table.grad.to_dense()
        for optimizer in self._optimizers:
            optimizer.step()


def _of_tables(
    kind: str, weights: list[nn.Parameter], learning_rate: float, table_l2: float
) -> torch.optim.Optimizer:
    match kind:
        case "adam":
            return LazyAdam(weights, lr=learning_rate)
        case "adam_dense":
            return torch.optim.Adam(weights, lr=learning_rate, weight_decay=table_l2, fused=True)
        case "adagrad":
            return RowAdagrad(weights, lr=learning_rate)
    raise AssertionError(f"settings name an optimizer that is not here: {kind}")


def _as_held(optimizer: torch.optim.Optimizer, value: Tensor) -> Tensor | int:
    # LazyAdam counts its steps in a plain number, Adam in a tensor.
    is_count = isinstance(optimizer, LazyAdam) and not value.dim()
    return int(value) if is_count else use_large_pages(value.clone())


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) on the rows of sparse gradients; the others stay as they are.

    The rows of a batch and their moments are gathered, stepped by torch's fused Adam and put back. As in the
    paper epsilon is added to the corrected root; torch's SparseAdam adds it before, so its first steps are
    shorter where gradients are near epsilon.
    """

    def __init__(
        self, weights: Iterable[Tensor], lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps=1e-8
    ):
        super().__init__(weights, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None) -> None:
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
                kept = (weight, state["exp_avg"], state["exp_avg_sq"])
                w, m, v = (tensor.index_select(0, rows) for tensor in kept)
                num_steps = torch.tensor(float(state["step"]), device=rows.device)  # until now
                adam(
                    [w], [g.contiguous()], [m], [v], [], [num_steps],
                    fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
                    lr=group["lr"], beta1=beta1, beta2=beta2, eps=eps,
                )  # fmt: skip
                state["step"] += 1
                for tensor, moved in zip(kept, (w, m, v), strict=True):
                    tensor.index_copy_(0, rows, moved)


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad with one sum of squares a row in place of one a weight, of sparse gradients only.

    With g the gradient of a row:  n += mean of g^2,  w -= lr g / (sqrt(n) + eps)  (J. Duchi et al. 2011; a
    row at a time in D. Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep
    Learning Recommendation Models", 2022, sec. 4.1). It remembers K times less than Adagrad, 2 K times less
    than Adam, and touches the rows of the batch only.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, *, eps: float = 1e-10):
        super().__init__(weights, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None) -> None:
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
    """All of the model's, in its order."""
    return [module for module in model.modules() if isinstance(module, FieldEmbedding)]


def tables(model: nn.Module) -> list[nn.Parameter]:
    """The weights whose gradients are sparse."""
    return [embedding.table.weight for embedding in field_embeddings(model)]


def dense_weights(model: nn.Module) -> list[nn.Parameter]:
    """All other weights, in the model's order."""
    sparse: Iterable[int] = {id(weight) for weight in tables(model)}
    return [weight for weight in model.parameters() if id(weight) not in sparse]
