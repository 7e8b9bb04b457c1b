"""Python's side of the list of activations; csrc/activations.h is the other, and a test holds them together."""

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
    "relu": Activation(lambda z, _: torch.relu(z), lambda _: nn.ReLU()),
    "leaky_relu": Activation(F.leaky_relu, nn.LeakyReLU),
    "tanh": Activation(lambda z, _: torch.tanh(z), lambda _: nn.Tanh()),
    "sigmoid": Activation(lambda z, _: torch.sigmoid(z), lambda _: nn.Sigmoid()),
}


def named(activation: str, argument: str = "activation") -> Activation:
    """The activation of that name.

    Raises:
        ValueError: there is none; the message names the argument and the names that there are.
    """
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"{argument}: expected one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    return ACTIVATIONS[activation]
