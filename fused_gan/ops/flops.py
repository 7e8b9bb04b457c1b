"""The operators' counts for `torch.utils.flop_counter.FlopCounterMode`: those of the stock operators in their place.

As there, a multiply-add counts two, and only the matrix products count.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from math import prod
from types import ModuleType

import torch

from fused_gan.ops import library  # noqa: F401  (registers the operators)

Shape = Sequence[int]
COUNTER = "torch.utils.flop_counter"


def _product(samples: int, weight: Shape) -> int:
    """Return the count of one product of a layer, whichever of its three directions."""
    return 2 * samples * prod(weight)


def linear_act(input: Shape, weight: Shape, *args: object, **kwargs: object) -> int:
    """Return the count of ``linear_act``."""
    return _product(prod(input[:-1]), weight)


def linear_act_backward(
    grad: Shape,
    kept: Shape | None,
    input: Shape | None,
    weight: Shape | None,
    activation: str,
    parameters: Sequence[float],
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


def mlp(input: Shape, weights: Sequence[Shape], *args: object, **kwargs: object) -> int:
    """Return the count of ``mlp``."""
    return sum(_product(prod(input[:-1]), weight) for weight in weights)


def mlp_backward(
    grad: Shape,
    outputs: Sequence[Shape],
    preactivations: Sequence[Shape],
    input: Shape,
    weights: Sequence[Shape],
    activations: Sequence[str],
    parameters: Sequence[float],
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


def register(counter: ModuleType) -> None:
    """Make the formulas known to torch.utils.flop_counter, the module."""
    operators = torch.ops.fused_gan
    for targets, formula in (
        ([operators.linear_act], linear_act),
        ([operators.linear_act_backward], linear_act_backward),
        ([operators.mlp, operators.mlp_forward], mlp),
        ([operators.mlp_backward, operators.mlp_backward_], mlp_backward),
    ):
        counter.register_flop_formula(targets)(formula)


class _Registrar:
    """A finder of modules that registers the formulas once the counter has been imported.

    This package does not import the counter itself, because the counter imports triton where it is installed, which
    takes 0.3 s.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the counter's spec as the other finders give it, with the registration behind its execution."""
        if name != COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if COUNTER in sys.modules:
    register(sys.modules[COUNTER])
else:
    sys.meta_path.insert(0, _Registrar())
