"""The operators' counts for `torch.utils.flop_counter.FlopCounterMode`: those of the stock operators in their place.

As there, a multiply-add counts two, and only the matrix products count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from fused_gan.ops import library  # noqa: F401  (registers the operators)

Shape = Sequence[int]
_OPERATORS = torch.ops.fused_gan


def _product(samples: int, weight: Shape) -> int:
    """Return the count of one product of a layer, whichever of its three directions."""
    return 2 * samples * prod(weight)


def _formula(*operators: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    register: Callable[[Callable[..., int]], Callable[..., int]] = register_flop_formula(list(operators))
    return register


@_formula(_OPERATORS.linear_act)
def linear_act(input: Shape, weight: Shape, *args: object, **kwargs: object) -> int:
    """Return the count of ``linear_act``."""
    return _product(prod(input[:-1]), weight)


@_formula(_OPERATORS.linear_act_backward)
def linear_act_backward(
    grad: Shape,
    output: Shape | None,
    input: Shape | None,
    weight: Shape | None,
    activation: str,
    negative_slope: float,
    wanted: Sequence[bool],
    **kwargs: object,
) -> int:
    """Return the count of the gradients that are wanted: of the input, of the weight; that of the bias is a sum."""
    samples, outputs = prod(grad[:-1]), grad[-1]
    found = 0
    if wanted[0] and weight is not None:
        found += _product(samples, weight)
    if wanted[1] and input is not None:
        found += _product(samples, (outputs, input[-1]))
    return found


@_formula(_OPERATORS.mlp, _OPERATORS.mlp_forward)
def mlp(input: Shape, weights: Sequence[Shape], *args: object, **kwargs: object) -> int:
    """Return the count of ``mlp``."""
    return sum(_product(prod(input[:-1]), weight) for weight in weights)


@_formula(_OPERATORS.mlp_backward, _OPERATORS.mlp_backward_)
def mlp_backward(
    grad: Shape,
    outputs: Sequence[Shape],
    input: Shape,
    weights: Sequence[Shape],
    activations: Sequence[str],
    negative_slope: float,
    input_wanted: bool,
    weights_wanted: Sequence[bool],
    biases_wanted: Sequence[bool],
    **kwargs: object,
) -> int:
    """Return the count of the gradients that are wanted, and of those on the way down to them."""
    samples = prod(grad[:-1])
    found, goes_on = 0, input_wanted
    for weight, weight_wanted, bias_wanted in zip(weights, weights_wanted, biases_wanted, strict=True):
        # The gradient of a layer's input is wanted where something below it wants a gradient.
        found += _product(samples, weight) * (int(goes_on) + int(weight_wanted))
        goes_on = goes_on or weight_wanted or bias_wanted
    return found
