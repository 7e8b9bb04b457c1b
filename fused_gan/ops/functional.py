"""The operators as functions: thin calls into `torch.ops.fused_gan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _is_tracing as is_tracing  # torch.jit.is_tracing only calls this function, and takes longer
from torch.compiler import is_dynamo_compiling

from fused_gan.ops import (
    library,  # noqa: F401  (registers the operators)
    reference,
)
from fused_gan.ops.activations import DEFAULT_NEGATIVE_SLOPE


class ArgumentValueError(ValueError, RuntimeError):
    """A shape, an activation or a slope is wrong. Stock raises RuntimeError for a wrong shape, so it is this too."""


class ArgumentTypeError(TypeError, RuntimeError):
    """A dtype or layout is wrong. Stock raises RuntimeError for a wrong dtype, so it is this too."""


# Looked up once, because the time of a look-up is noticeable on small layers.
_linear_act = torch.ops.fused_gan.linear_act.default
_mlp = torch.ops.fused_gan.mlp.default


def is_recorded() -> bool:
    """Whether torch.export or torch.jit.trace records a program, which has to run without this package."""
    # torch.compiler.is_exporting() returns this flag alone, but torch.compile of torch 2.11 takes the function as true.
    exporting: bool = torch.compiler._is_exporting_flag
    return exporting or (not is_dynamo_compiling() and is_tracing())


def linear_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "relu",
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
) -> Tensor:
    """Return ``activation(input @ weight.T + bias)``, computed by one operator and differentiable to any order.

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
    if is_recorded():
        return reference.linear_act(input, weight, bias, activation, negative_slope)
    return _called(_linear_act, input, weight, bias, activation, negative_slope)


def mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
) -> Tensor:
    """Return the result of a chain of `linear_act`s, computed by one operator and differentiable to any order.

    Args:
        input: ``(..., in_features)``, as for `linear_act`.
        weights: one ``(out_features, in_features)`` per layer; in_features is the out_features of the layer before.
        biases: one ``(out_features,)`` or None per layer; all parameters have the dtype and device of ``input``.
        activations: one name per layer.
        negative_slope: of every leaky_relu, at least 0.

    Returns:
        ``(..., out_features)`` of the last layer, contiguous, dtype and device of ``input``.

    Raises:
        ValueError, TypeError, RuntimeError: as for `linear_act`; the message names the layer, as in ``weights[1]``.
    """
    if isinstance(activations, str):
        raise TypeError(f"activations: expected a sequence of names, one per layer, got the string {activations!r}")
    if is_recorded():
        return reference.mlp(input, weights, biases, activations, negative_slope)
    return _called(_mlp, input, weights, biases, activations, negative_slope)


def _called(operator: Any, *args: Any) -> Tensor:
    """Call an operator; its errors are those of stock as well."""
    result: Tensor
    if is_dynamo_compiling():  # it raises errors of its own
        result = operator(*args)
        return result
    try:
        result = operator(*args)
    except (ValueError, TypeError) as error:
        # Subclasses are somebody else's: of a mode, of a hook.
        if type(error) is ValueError:
            raise ArgumentValueError(*error.args) from None
        if type(error) is TypeError:
            raise ArgumentTypeError(*error.args) from None
        raise
    return result
