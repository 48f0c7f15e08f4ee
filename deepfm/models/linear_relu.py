"""A linear layer and its ReLU, in bfloat16 on a CPU: by oneDNN in one pass, where autograd's take three."""

import torch
from torch import Tensor

#: Rows whose share of a weight's gradient is computed at once: a product that sums over many rows is oneDNN's
#: slowest, and takes a tenth less time in parts.
_ROWS_AT_ONCE = 1024


def is_fused(x: Tensor) -> bool:
    """Whether `linear_relu` can take the place of the two layers for these inputs, here and now."""
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        # What torch's own compiler calls; not promised to other callers, so asked for.
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


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
        return before, _sum_of_products(gradient, x).to(of_weight), gradient.sum(0).to(of_weight)


def _sum_of_products(gradient: Tensor, x: Tensor) -> Tensor:
    """(B, O), (B, I) -> (O, I): sum over the rows of their outer products."""
    num_parts, rest = divmod(len(x), _ROWS_AT_ONCE)
    if rest or num_parts < 2:
        return gradient.t() @ x
    parts = gradient.unflatten(0, (num_parts, _ROWS_AT_ONCE)).transpose(1, 2)
    return torch.bmm(parts, x.unflatten(0, (num_parts, _ROWS_AT_ONCE))).sum(0)
