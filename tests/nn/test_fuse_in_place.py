"""What overwrites the output of a LeakyReLU: stock allows it unless the LeakyReLU works in place, and so do we."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fused_gan
from fused_gan.nn.fusing import fuse
from helpers.left_alone import x
from helpers.networks import assert_same_step, operators_run


class AddsOneInPlace(nn.Module):
    """Works in place, and has no attribute that says so."""

    def forward(self, input: Tensor) -> Tensor:
        return input.add_(1)


class Passes(nn.Identity):
    """Stock's Identity by another name."""


class ConvInPlace(nn.Conv1d):
    """Has stock's forward, which calls this method."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input.mul_(2), weight, bias)


class DropoutInPlace(nn.Dropout):
    """Has stock's forward, and attributes that are no entries of its dictionary."""

    p = property(lambda self: 0.4, lambda self, value: None)  # type: ignore[assignment]
    inplace = property(lambda self: True, lambda self, value: None)  # type: ignore[assignment]


# Whatever the memory of LeakyReLU's output goes through before a module writes into it.
WRITERS: dict[str, list[nn.Module]] = {
    "at once": [nn.ReLU(inplace=True)],
    "behind Flatten": [nn.Flatten(), nn.ReLU(inplace=True)],
    "behind Unflatten": [nn.Unflatten(1, (1, 5)), nn.Hardtanh(inplace=True), nn.Flatten()],
    "behind Dropout of nothing": [nn.Dropout(0.0), nn.ReLU6(inplace=True)],
    "behind Dropout1d of nothing": [nn.Unflatten(1, (1, 5)), nn.Dropout1d(0.0), nn.ELU(inplace=True), nn.Flatten()],
    "behind Identity by another name": [Passes(), nn.Flatten(), nn.SELU(inplace=True)],
    "by a Dropout": [nn.Dropout(0.4, inplace=True)],
    "without a word": [AddsOneInPlace()],
    "without a word, behind Flatten": [nn.Flatten(), AddsOneInPlace()],
    "by a subclass of Conv1d": [nn.Unflatten(1, (1, 5)), ConvInPlace(1, 1, 1), nn.Flatten()],
    "by a subclass of Dropout": [DropoutInPlace()],
    "in a nested Sequential": [nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU(inplace=True)))],
}


@pytest.mark.parametrize("modules", WRITERS.values(), ids=WRITERS)
def test_a_leaky_relu_whose_output_is_overwritten(modules: list[nn.Module]) -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), *modules, nn.Linear(5, 5), nn.Tanh()).double()
    fused = fuse(stock)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == [["leaky_relu"], ["tanh"]]


@pytest.mark.parametrize("hooked", [False, True], ids=["", "that gets a hook"])
def test_a_leaky_relu_at_the_end_of_a_nested_sequential(hooked: bool) -> None:
    inner = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.LeakyReLU(0.3))
    stock = nn.Sequential(inner, nn.Hardtanh(inplace=True)).double()
    fused = fuse(stock)
    if hooked:
        for model in (stock, fused):
            model[0].register_forward_hook(lambda *_: None)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == [["tanh", "leaky_relu"]]


class Traced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.fc(x), 0.3)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "a Sequential": lambda: nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3)),
    "of torch's slope": lambda: nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU()),
    "a chain": lambda: nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), nn.Linear(5, 5), nn.LeakyReLU(0.3)),
    "of slope 0": lambda: nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.0)),
    "with an idle module behind": lambda: nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), nn.Identity()),
    "a FusedMLP": lambda: fused_gan.FusedMLP([5, 5, 5], "leaky_relu", "leaky_relu", 0.3),
    "in a forward": Traced,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_an_output_that_is_overwritten_outside_of_the_model(make: Callable[[], nn.Module]) -> None:
    """As in a residual block: h = block(x); h += x."""
    fused = fuse(make().double(), trace=True)
    stock = fused_gan.unfuse(fused)
    assert operators_run(fused, x()) != []
    inputs, grads = x(), []
    for model in (fused, stock):
        output = model(inputs)
        output += inputs
        grads.append(torch.autograd.grad(output.mul_(-1).sin_().sum(), list(model.parameters())))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fuse(nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3, inplace=True))),
        lambda: fused_gan.FusedLinear(5, 5, activation="leaky_relu"),
    ],
    ids=["behind a LeakyReLU in place, as in stock", "of a FusedLinear"],
)
def test_an_output_that_nobody_may_overwrite_is_guarded(make: Callable[[], nn.Module]) -> None:
    model = make().double()
    assert operators_run(model, x()) == [["leaky_relu"]]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        model(x()).mul_(2).sum().backward()


def test_inplace_is_read_at_each_call() -> None:
    model = fuse(nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3, inplace=True))).double()
    model(x())
    model[1].inplace = False
    model(x()).mul_(2).sum().backward()
    model[1].inplace = True
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        model(x()).mul_(2).sum().backward()


def test_a_scripted_module_behind_a_leaky_relu() -> None:
    scripted = torch.jit.script(nn.Tanh())
    stock = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), scripted).double()
    fused = fuse(nn.Sequential(*stock), inplace=True)  # scripted modules have no deep copy
    inputs = x()
    torch.testing.assert_close(fused(inputs), stock(inputs))
