"""The operators in plain PyTorch, for any dtype and device. Tests and benchmarks compare with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fused_gan.ops.activations import ACTIVATIONS, DEFAULT_NEGATIVE_SLOPE, find_activation, require_slope


def linear_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "relu",
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
) -> Tensor:
    """Return ``activation(input @ weight.T + bias)`` by stock PyTorch; shapes as in `fused_gan.linear_act`."""
    function = find_activation(activation).function
    require_slope(negative_slope)
    return function(F.linear(input, weight, bias), negative_slope)


def mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
) -> Tensor:
    """Return the result of a chain of `linear_act`s by stock PyTorch; shapes as in `fused_gan.mlp`."""
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        input = linear_act(input, weight, bias, activation, negative_slope)
    return input


def stock_layers(layer: Any) -> nn.Sequential:
    """Return the stock layers that compute what a `FusedLinear` computes; they share its parameters."""
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    linear.weight, linear.bias = layer.weight, layer.bias
    return nn.Sequential(linear, ACTIVATIONS[layer.activation].module(layer.negative_slope))
