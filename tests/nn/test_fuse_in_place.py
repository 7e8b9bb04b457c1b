"""Modules behind a LeakyReLU that work in place: a fused leaky_relu would read its gradient from what they wrote."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fused_gan.nn.fusing import fuse
from helpers.left_alone import reasons, x
from helpers.networks import assert_same_step, operators_run


def test_module_behind_a_leaky_relu_that_begins_to_work_in_place() -> None:
    stock = nn.Sequential(
        nn.Linear(5, 5), nn.LeakyReLU(0.3), nn.Identity(), nn.Flatten(), nn.Hardtanh(), nn.Linear(5, 5)
    ).double()
    fused = fuse(stock)
    assert operators_run(fused, x()) == [["leaky_relu"]]
    fused[4].inplace = True
    assert operators_run(fused, x()) == []
    fused(x()).sum().backward()
    fused[4].inplace = False
    assert operators_run(fused, x()) == [["leaky_relu"]]


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
    """A fused leaky_relu reads the gradient from its output, stock's from its input."""
    stock = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), *modules, nn.Linear(5, 5), nn.Tanh()).double()
    fused = fuse(stock)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == [["tanh"]]
    assert "what comes next may overwrite the output, of which the gradient is read" in reasons(fused)


@pytest.mark.parametrize("hooked", [False, True], ids=["", "that gets a hook"])
def test_a_leaky_relu_at_the_end_of_a_nested_sequential(hooked: bool) -> None:
    """The Sequential around it has no other chain, but knows what comes next."""
    stock = nn.Sequential(nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3)), nn.ReLU(inplace=True)).double()
    fused = fuse(stock)
    if hooked:
        for model in (stock, fused):
            model[0].register_forward_hook(lambda *_: None)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == []
    fused[1].inplace = False
    assert operators_run(fused, x()) == ([] if hooked else [["leaky_relu"]])


def test_a_module_at_the_end_of_a_container_with_hooks_that_begins_to_return_its_input() -> None:
    inner = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), nn.AlphaDropout(0.4))
    inner.register_forward_hook(lambda *_: None)
    stock = nn.Sequential(inner, nn.ReLU(inplace=True)).double()
    fused = fuse(stock)
    assert operators_run(fused, x()) == [["leaky_relu"]]
    assert_same_step(fused.eval(), stock.eval(), x())
    assert operators_run(fused, x()) == []


def test_a_scripted_module_behind_a_leaky_relu() -> None:
    scripted = torch.jit.script(nn.Tanh())
    stock = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), scripted).double()
    fused = fuse(nn.Sequential(*stock), inplace=True)  # scripted modules have no deep copy
    inputs = x()
    torch.testing.assert_close(fused(inputs), stock(inputs))


READERS: dict[str, list[nn.Module]] = {
    "batch norm": [nn.BatchNorm1d(5)],
    "layer norm behind a view": [nn.Unflatten(1, (1, 5)), nn.Flatten(), nn.LayerNorm(5)],
    "dropout": [nn.Dropout(0.4)],
    "a convolution": [nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 1, 1), nn.Flatten()],
    "a parametrised Linear": [nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5))],
}


@pytest.mark.parametrize("modules", READERS.values(), ids=READERS)
def test_a_leaky_relu_whose_output_is_only_read(modules: list[nn.Module]) -> None:
    stock = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.3), *modules, nn.Linear(5, 5), nn.Tanh()).double()
    fused = fuse(stock)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == [["leaky_relu"], ["tanh"]]
