"""A linear layer and its ReLU, in bfloat16 on a CPU: by oneDNN in one pass, where autograd's take three."""

from functools import cache

import torch
from torch import Tensor


def is_fused(x: Tensor) -> bool:
    """Whether `linear_relu` can take the place of the two layers for these inputs, here and now."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and _is_supported()
    )


@cache
def _is_supported() -> bool:
    # What torch's own compiler calls; not promised to other callers, so asked for.
    ops = torch.ops.mkldnn
    return hasattr(ops, "_linear_pointwise") and ops._is_mkldnn_bf16_supported()


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, I), (O, I), (O,) -> (B, O) bfloat16: max(0, x W^T + b), each factor rounded to bfloat16."""
    return _LinearReLU.apply(x, weight, bias)


class _LinearReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.dtypes = x.dtype, weight.dtype
        x, weight = x.bfloat16(), weight.bfloat16()
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias.bfloat16(), "relu", [], "")
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight, y = ctx.saved_tensors
        of_x, of_weight = ctx.dtypes
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        before = (gradient @ weight).to(of_x) if ctx.needs_input_grad[0] else None
        return before, (gradient.t() @ x).to(of_weight), gradient.sum(0).to(of_weight)
