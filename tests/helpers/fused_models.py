"""The table of models that the tests of fuse() go through, and the operators that each one runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fused_gan.nn import FusedLinear

RELU, LEAKY = ["relu"], ["leaky_relu"]
CHAIN = [["relu", "tanh", "identity"]]


class Block(nn.Sequential):
    """A Sequential by another name, with arguments of its own, as torchvision's MLP."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Linear(outputs, outputs), nn.Tanh())
        self.inputs = inputs


class Residual(nn.Module):
    """A forward of its own around Sequentials in a ModuleList and a ModuleDict, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.2)) for _ in range(2))
        self.heads = nn.ModuleDict({"out": nn.Sequential(OrderedDict(fc=nn.Linear(5, 5), act=nn.Sigmoid()))})
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.blocks, self.blocks[0]):
            x = x + block(x)
        return self.heads["out"](x) * self.scale


def layers_used_twice() -> nn.Sequential:
    linear, relu = nn.Linear(5, 5), nn.ReLU()
    return nn.Sequential(linear, relu, nn.Linear(5, 5), relu, linear, relu)


# Name: the model of 5 features, the operators that its call runs in training mode.
MODELS: dict[str, tuple[Callable[[], nn.Module], list[list[str]]]] = {
    "a chain": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)),
        CHAIN,
    ),
    "named children": (
        lambda: nn.Sequential(OrderedDict(fc=nn.Linear(5, 8), act=nn.ReLU(), out=nn.Linear(8, 3))),
        [["relu", "identity"]],
    ),
    "in place": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(True), nn.Linear(8, 3), nn.LeakyReLU(0.3, True)),
        [["relu", "leaky_relu"]],
    ),
    "dropout between": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3), nn.Sigmoid()),
        [RELU, ["sigmoid"]],
    ),
    "batch norm between": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3), nn.LeakyReLU(0.2)),
        [LEAKY],
    ),
    "slopes that differ": (
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.LeakyReLU(0.2), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3), nn.LeakyReLU(0.1)
        ),
        [["leaky_relu", "tanh", "leaky_relu"]],
    ),
    "nested": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(5, 8), nn.ReLU()), nn.Sequential(nn.Sequential(nn.Linear(8, 3)), nn.Tanh())
        ),
        [["relu", "tanh"]],
    ),
    "placeholders": (
        lambda: nn.Sequential(
            nn.Identity(), nn.Linear(5, 8), nn.Identity(), nn.ReLU(), nn.Identity(), nn.Linear(8, 3), nn.Tanh()
        ),
        [["relu", "tanh"]],
    ),
    "layers used twice": (layers_used_twice, [["relu", "relu", "relu"]]),
    "no biases": (
        lambda: nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)),
        [["relu", "identity"]],
    ),
    "a kind of Sequential": (lambda: Block(5, 8), [["relu", "tanh"]]),
    "a forward of its own": (Residual, [LEAKY, LEAKY, LEAKY, ["sigmoid"]]),
    "a FusedLinear inside": (
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.ReLU(), FusedLinear(8, 8, activation="tanh"), nn.Linear(8, 3), nn.Sigmoid()
        ),
        [["relu", "tanh", "sigmoid"]],
    ),
}
every_model = pytest.mark.parametrize(("make", "operators"), MODELS.values(), ids=MODELS)
every_make = pytest.mark.parametrize("make", [make for make, _ in MODELS.values()], ids=MODELS)


def x() -> Tensor:
    return torch.randn(6, 5)
