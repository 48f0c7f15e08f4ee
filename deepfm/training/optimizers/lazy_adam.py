"""Adam on the rows of a batch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from deepfm.training.device import use_large_pages
from deepfm.training.optimizers.weights import sparse_rows


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) on the rows of sparse gradients; all other rows are unchanged.

    The rows of a batch and their moments are gathered, updated by torch's fused Adam, and written back. As in
    the paper, epsilon is added to the corrected root; torch's SparseAdam adds it before the correction, so
    its first steps are shorter when gradients are near epsilon.

    A group of one weight may have `row_rates`, (rows,) factors of the learning rate.
    """

    def __init__(
        self,
        weights: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps=1e-8,
    ):
        super().__init__(weights, {"lr": lr, "betas": betas, "eps": eps, "row_rates": None})

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
                rows, g = sparse_rows(weight.grad)
                tensors = (weight, state["exp_avg"], state["exp_avg_sq"])
                w, m, v = (tensor.index_select(0, rows) for tensor in tensors)
                before = None if group["row_rates"] is None else w.clone()
                # Filled on the device: a copy from the host would wait for the steps in flight.
                num_steps = torch.full((), float(state["step"]), device=rows.device)  # before this step
                adam(
                    [w], [g.contiguous()], [m], [v], [], [num_steps],
                    fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
                    lr=group["lr"], beta1=beta1, beta2=beta2, eps=eps,
                )  # fmt: skip
                state["step"] += 1
                if before is not None:
                    w = before.lerp_(w, group["row_rates"].index_select(0, rows)[:, None].to(w.dtype))
                for tensor, updated in zip(tensors, (w, m, v), strict=True):
                    tensor.index_copy_(0, rows, updated)
