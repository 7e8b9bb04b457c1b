"""The operators in plain PyTorch, for any dtype and device. Tests and benchmarks compare with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fused_gan.ops.activations import (
    DEFAULT_NEGATIVE_SLOPE,
    IDLE,
    apply,
    check_parameters,
    check_weight_gain,
    find_activation,
    make_module,
    make_scale,
    values_of,
)


def linear_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "relu",
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
    *,
    gain: float = 1.0,
    clamp: float | None = None,
    weight_gain: float = 1.0,
    **parameters: float,
) -> Tensor:
    """Return ``activation(input @ weight.T + bias)`` by stock PyTorch; arguments as in `fused_gan.linear_act`."""
    return mlp(
        input,
        [weight],
        [bias],
        [activation],
        negative_slope,
        gain=gain,
        clamp=clamp,
        weight_gain=[weight_gain],
        **parameters,
    )


def mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
    *,
    gain: float = 1.0,
    clamp: float | None = None,
    weight_gain: float | Sequence[float] = 1.0,
    **parameters: float,
) -> Tensor:
    """Return the result of a chain of `linear_act`s by stock PyTorch; arguments as in `fused_gan.mlp`."""
    for activation in activations:
        find_activation(activation)
    check_parameters(activations, negative_slope, parameters)
    scale = make_scale(gain, clamp)
    weights = scaled_weights(weights, weight_gain)
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        values = values_of(activation, negative_slope, parameters)
        input = apply(activation, F.linear(input, weight, bias), values, scale)
    return input


def scaled_weights(weights: Sequence[Tensor], gain: float | Sequence[float]) -> Sequence[Tensor]:
    """Return the weights times their gains: one number for all, or one for each. What is no weight stays what it is.

    Raises:
        ValueError: a gain is not a finite number, or they are not as many as the weights.
    """
    gains = [gain] * len(weights) if not isinstance(gain, Sequence) else gain
    if len(gains) != len(weights):
        raise ValueError(
            f"weight_gain: expected one number, or one for each of the {len(weights)} weights, got {gain!r}"
        )
    for each in gains:
        check_weight_gain(each)
    return [
        weight * each if each != 1 and isinstance(weight, Tensor) and weight.is_floating_point() else weight
        for weight, each in zip(weights, gains, strict=True)
    ]


def stock_layers(layer: Any) -> nn.Sequential:
    """Return the stock layers that compute what a `FusedLinear` computes; they share its parameters.

    Raises:
        ValueError: the layer has a gain, a clamp or a weight_gain, for which stock has no module.
    """
    for name, idle in IDLE.items():
        if (value := getattr(layer, name)) != idle:
            raise ValueError(f"layer: expected no {name}, got {value!r}")
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    linear.weight, linear.bias = layer.weight, layer.bias
    values = values_of(layer.activation, layer.negative_slope, vars(layer))
    return nn.Sequential(linear, make_module(layer.activation, values))
