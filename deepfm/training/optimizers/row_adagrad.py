"""Adagrad with one number of state per row."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from deepfm.training.device import use_large_pages
from deepfm.training.optimizers.weights import sparse_rows


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad with one sum of squares per row instead of one per weight, for sparse gradients.

    With g the gradient of a row:  n += mean of g^2,  w -= lr g / (sqrt(n) + eps)  (J. Duchi et al. 2011; row-
    wise in D. Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning
    Recommendation Models", 2022, sec. 4.1). Its state is K times smaller than Adagrad's and 2 K times smaller
    than Adam's, and only the rows of the batch are touched.

    A group of one weight may have `row_rates`, (rows,) factors of the learning rate.
    """

    def __init__(
        self, weights: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float, *, eps: float = 1e-10
    ):
        super().__init__(weights, {"lr": lr, "eps": eps, "row_rates": None})

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
                rows, values = sparse_rows(weight.grad)
                mean_square = (
                    torch.linalg.vector_norm(values, dim=1, keepdim=True).square_() / values.shape[1]
                )
                n = mean_square.add_(state["n"].index_select(0, rows))
                state["n"].index_copy_(0, rows, n)
                if group["row_rates"] is not None:
                    values = values * group["row_rates"].index_select(0, rows)[:, None].to(values.dtype)
                w = weight.index_select(0, rows)
                w.addcdiv_(values, n.sqrt().add_(group["eps"]), value=-group["lr"])
                weight.index_copy_(0, rows, w)
