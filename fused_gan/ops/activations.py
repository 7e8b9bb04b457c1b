"""Python's list of activations. A test fails if it differs from the list in csrc/activations.h."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEFAULT_NEGATIVE_SLOPE = 0.01  # of LeakyReLU, as in torch.nn.LeakyReLU


class Activation(NamedTuple):
    """One activation in plain PyTorch: as a function of (z, negative_slope) and as a module."""

    function: Callable[[Tensor, float], Tensor]
    module: Callable[[float], nn.Module]


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda z, _: z, lambda _: nn.Identity()),
    "relu": Activation(lambda z, _: F.relu(z), lambda _: nn.ReLU()),  # quantize_fx does not know torch.relu
    "leaky_relu": Activation(F.leaky_relu, nn.LeakyReLU),
    "tanh": Activation(lambda z, _: torch.tanh(z), lambda _: nn.Tanh()),
    "sigmoid": Activation(lambda z, _: torch.sigmoid(z), lambda _: nn.Sigmoid()),
}


def find_activation(activation: str, argument: str = "activation") -> Activation:
    """Return the activation of that name.

    Raises:
        ValueError: the name is unknown; the message says the argument and the known names.
    """
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"{argument}: expected one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    return ACTIVATIONS[activation]


def require_slope(negative_slope: object) -> None:
    """Raise a ValueError where negative_slope is not a number of at least 0."""
    if not isinstance(negative_slope, (int, float)) or not negative_slope >= 0:
        raise ValueError(f"negative_slope: expected a number ≥ 0, got {negative_slope!r}")
