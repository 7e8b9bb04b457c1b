"""The operators as functions: thin calls into `torch.ops.fused_gan`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fused_gan import _library  # noqa: F401  (registers the operators)
from fused_gan.activations import DEFAULT_NEGATIVE_SLOPE


def linear_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "relu",
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
) -> Tensor:
    """``activation(input @ weight.T + bias)`` as one operator, differentiable to any order.

    Args:
        input: ``(..., in_features)``, any number of leading dimensions, any strides; float32, float64, bfloat16 or
            float16, on CPU or CUDA.
        weight: ``(out_features, in_features)``, dtype and device of ``input``.
        bias: ``(out_features,)`` or None, dtype and device of ``input``.
        activation: "identity", "relu", "leaky_relu", "tanh" or "sigmoid".
        negative_slope: of leaky_relu, at least 0: the gradient is read from the output's sign.

    Returns:
        ``(..., out_features)``, contiguous, dtype and device of ``input``.

    Raises:
        ValueError: a shape, the activation or the slope is wrong.
        TypeError: a dtype or layout is not supported, or dtypes differ (outside of autocast).
        RuntimeError: the tensors lie on different devices.
    """
    result: Tensor = torch.ops.fused_gan.linear_act(input, weight, bias, activation, negative_slope)
    return result


def mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
) -> Tensor:
    """A chain of `linear_act`s as one operator, differentiable to any order.

    Args:
        input: ``(..., in_features)``, as for `linear_act`.
        weights: one ``(out_features, in_features)`` a layer, each layer's in_features the out_features before it.
        biases: one ``(out_features,)`` or None a layer.
        activations: one name a layer.
        negative_slope: of every leaky_relu, at least 0.

    Returns:
        ``(..., out_features)`` of the last layer.

    Raises:
        ValueError, TypeError, RuntimeError: as `linear_act`; the message names the layer, as in ``weights[1]``.
    """
    result: Tensor = torch.ops.fused_gan.mlp(input, weights, biases, activations, negative_slope)
    return result
