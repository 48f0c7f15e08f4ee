"""Fused linear layer and ReLU in bfloat16 on a CPU: oneDNN takes one pass, autograd three."""

from functools import cache

import torch
from torch import Tensor


def is_fused(x: Tensor) -> bool:
    """Whether `linear_relu` can replace the two layers for this input, device and autocast state."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and _is_supported()
    )


@cache
def _is_supported() -> bool:
    # These functions are for torch's compiler and not a public API, so check that they exist.
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
        x_dtype, weight_dtype = ctx.dtypes
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        x_gradient = (gradient @ weight).to(x_dtype) if ctx.needs_input_grad[0] else None
        return x_gradient, (gradient.t() @ x).to(weight_dtype), gradient.sum(0).to(weight_dtype)
