"""Fused linear layer and ReLU: values and gradients equal the two layers, up to bfloat16 precision."""

import pytest
import torch
from torch.nn.functional import linear

from deepfm.models import layers
from deepfm.models.layers import MLP
from deepfm.models.linear_relu import is_fused, linear_relu

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="needs a processor with bfloat16"
)

#: bfloat16 has 8 bits: the relative error of a product of rounded factors is below twice 2^-8.
PRECISION = {"rtol": 2e-2, "atol": 2e-2}


def values_and_gradients(function, x, weight, bias):
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    y = function(*inputs)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y.detach().float(), *(tensor.grad for tensor in inputs)]


@pytest.mark.parametrize("num_rows", [0, 1, 5, 2048])
def test_the_fused_layer_equals_the_two_layers(num_rows):
    generator = torch.Generator().manual_seed(num_rows)
    x = torch.randn(num_rows, 24, generator=generator)
    weight, bias = torch.randn(8, 24, generator=generator) / 5, torch.randn(8, generator=generator)
    # Inputs that bfloat16 represents exactly: compare the sums, not the rounding of the inputs.
    x, weight, bias = (tensor.bfloat16().float() for tensor in (x, weight, bias))
    actual = values_and_gradients(linear_relu, x, weight, bias)
    expected = values_and_gradients(lambda x, w, b: linear(x, w, b).relu(), x, weight, bias)
    for value, reference in zip(actual, expected, strict=True):
        assert value.dtype == torch.float32
        scale = reference.abs().max().clamp(min=1e-3) if reference.numel() else 1.0
        torch.testing.assert_close(value / scale, reference / scale, **PRECISION)


def test_an_input_without_requires_grad_gets_no_gradient():
    x, weight, bias = torch.randn(4, 3), torch.randn(2, 3, requires_grad=True), torch.zeros(2)
    linear_relu(x, weight, bias).sum().backward()
    assert x.grad is None
    assert weight.grad.shape == (2, 3)


def test_layers_are_fused_only_under_bfloat16_autocast_on_a_cpu():
    x = torch.randn(2, 3)
    assert not is_fused(x)
    with torch.autocast("cpu", torch.float16):
        assert not is_fused(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert is_fused(x)
        assert not is_fused(x.double())  # autocast does not cast float64
        assert not is_fused(x.to("meta"))


@pytest.mark.parametrize(
    ("settings", "num_fused"),
    [({}, 2), ({"dropout": 0.5}, 2), ({"activation": "tanh"}, 0), ({"batch_norm": True}, 0)],
)
def test_a_deep_part_gives_the_same_result_with_and_without_fusion(settings, num_fused, monkeypatch):
    calls = []
    monkeypatch.setattr(layers, "linear_relu", lambda *inputs: calls.append(1) or linear_relu(*inputs))
    torch.manual_seed(1)
    deep, x = MLP(12, (16, 8), **settings), torch.randn(64, 12)

    def logits_and_gradients():
        deep.zero_grad()
        torch.manual_seed(2)  # for dropout
        with torch.autocast("cpu", torch.bfloat16):
            logits = deep(x)
        logits.square().sum().backward()
        return [logits.detach(), *(weight.grad.clone() for weight in deep.parameters())]

    fused = logits_and_gradients()
    assert len(calls) == num_fused
    monkeypatch.setattr("deepfm.models.layers.is_fused", lambda x: False)
    for value, reference in zip(fused, logits_and_gradients(), strict=True):
        scale = reference.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(value / scale, reference / scale, rtol=3e-2, atol=3e-2)
