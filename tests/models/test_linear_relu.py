"""A linear layer and its ReLU in one: the values and gradients of the two, to bfloat16's precision."""

import pytest
import torch
from torch.nn.functional import linear

from deepfm.models import layers
from deepfm.models.layers import MLP
from deepfm.models.linear_relu import is_fused, linear_relu

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="of processors that have bfloat16"
)

#: bfloat16 has 8 bits: a product of rounded factors is off by less than twice 2^-8 of their sizes.
PRECISION = {"rtol": 2e-2, "atol": 2e-2}


def values_and_gradients(function, x, weight, bias):
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    y = function(*inputs)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y.detach().float(), *(tensor.grad for tensor in inputs)]


@pytest.mark.parametrize("num_rows", [0, 1, 5, 2048])
def test_it_equals_the_two_layers(num_rows):
    random = torch.Generator().manual_seed(num_rows)
    x = torch.randn(num_rows, 24, generator=random)
    weight, bias = torch.randn(8, 24, generator=random) / 5, torch.randn(8, generator=random)
    # Of factors that bfloat16 has: what is compared is the sum, not the rounding of what goes in.
    x, weight, bias = (tensor.bfloat16().float() for tensor in (x, weight, bias))
    found = values_and_gradients(linear_relu, x, weight, bias)
    expected = values_and_gradients(lambda x, w, b: linear(x, w, b).relu(), x, weight, bias)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        scale = other.abs().max().clamp(min=1e-3) if other.numel() else 1.0
        torch.testing.assert_close(one / scale, other / scale, **PRECISION)


def test_inputs_that_are_no_weights_get_no_gradient():
    x, weight, bias = torch.randn(4, 3), torch.randn(2, 3, requires_grad=True), torch.zeros(2)
    linear_relu(x, weight, bias).sum().backward()
    assert x.grad is None
    assert weight.grad.shape == (2, 3)


def test_it_takes_the_place_of_the_layers_only_under_bfloat16_on_a_cpu():
    x = torch.randn(2, 3)
    assert not is_fused(x)
    with torch.autocast("cpu", torch.float16):
        assert not is_fused(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert is_fused(x)
        assert not is_fused(x.double())  # which autocast leaves alone
        assert not is_fused(x.to("meta"))


@pytest.mark.parametrize(
    ("settings", "num_fused"),
    [({}, 2), ({"dropout": 0.5}, 2), ({"activation": "tanh"}, 0), ({"batch_norm": True}, 0)],
)
def test_a_deep_part_says_the_same_with_and_without_it(settings, num_fused, monkeypatch):
    calls = []
    monkeypatch.setattr(layers, "linear_relu", lambda *inputs: calls.append(1) or linear_relu(*inputs))
    torch.manual_seed(1)
    deep, x = MLP(12, (16, 8), **settings), torch.randn(64, 12)

    def logits_and_gradients():
        deep.zero_grad()
        torch.manual_seed(2)  # of what drops out
        with torch.autocast("cpu", torch.bfloat16):
            logits = deep(x)
        logits.square().sum().backward()
        return [logits.detach(), *(weight.grad.clone() for weight in deep.parameters())]

    found = logits_and_gradients()
    assert len(calls) == num_fused
    monkeypatch.setattr("deepfm.models.layers.is_fused", lambda x: False)
    for one, other in zip(found, logits_and_gradients(), strict=True):
        scale = other.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(one / scale, other / scale, rtol=3e-2, atol=3e-2)
