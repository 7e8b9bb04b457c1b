"""The operators in plain PyTorch, any dtype and device: the truth that tests and benchmarks compare with."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fused_gan.activations import ACTIVATIONS, DEFAULT_NEGATIVE_SLOPE


def linear_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "relu",
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
) -> Tensor:
    """``activation(input @ weight.T + bias)`` as stock PyTorch computes it; shapes as in `fused_gan.linear_act`."""
    return ACTIVATIONS[activation].function(F.linear(input, weight, bias), negative_slope)


def stock_layers(layer: nn.Linear) -> nn.Sequential:
    """A `FusedLinear` as the stock layers that it stands for, sharing its parameters."""
    activation = ACTIVATIONS[getattr(layer, "activation", "identity")]
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    linear.weight, linear.bias = layer.weight, layer.bias
    return nn.Sequential(linear, activation.module(getattr(layer, "negative_slope", DEFAULT_NEGATIVE_SLOPE)))
