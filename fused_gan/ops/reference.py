"""The operators in plain PyTorch, for any dtype and device. Tests and benchmarks compare with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fused_gan.ops.activations import (
    DEFAULT_NEGATIVE_SLOPE,
    apply,
    check_parameters,
    find_activation,
    make_module,
    values_of,
)


def linear_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "relu",
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
    **parameters: float,
) -> Tensor:
    """Return ``activation(input @ weight.T + bias)`` by stock PyTorch; arguments as in `fused_gan.linear_act`."""
    find_activation(activation)
    check_parameters([activation], negative_slope, parameters)
    return apply(activation, F.linear(input, weight, bias), values_of(activation, negative_slope, parameters))


def mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
    **parameters: float,
) -> Tensor:
    """Return the result of a chain of `linear_act`s by stock PyTorch; arguments as in `fused_gan.mlp`."""
    for activation in activations:
        find_activation(activation)
    check_parameters(activations, negative_slope, parameters)
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        input = apply(activation, F.linear(input, weight, bias), values_of(activation, negative_slope, parameters))
    return input


def stock_layers(layer: Any) -> nn.Sequential:
    """Return the stock layers that compute what a `FusedLinear` computes; they share its parameters."""
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    linear.weight, linear.bias = layer.weight, layer.bias
    values = values_of(layer.activation, layer.negative_slope, vars(layer))
    return nn.Sequential(linear, make_module(layer.activation, values))
