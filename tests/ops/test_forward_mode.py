"""Forward-mode derivatives are those of stock: dual numbers, linearize, Jacobians, and backward through a tangent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.autograd.functional import jacobian

import fused_gan
from helpers.cases import ACTIVATION_NAMES


def tangent(model: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> Tensor:
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(model(forward_ad.make_dual(x, direction))).tangent
    assert found is not None
    return found


def of_weights(model: nn.Module, x: Tensor) -> Tensor:
    """Return the output's tangent along all parameters at once."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(value, torch.ones_like(value)) for name, value in parameters.items()}
        found = forward_ad.unpack_dual(torch.func.functional_call(model, duals, (x,))).tangent
    assert found is not None
    return found


def pair(activation: str) -> tuple[nn.Module, nn.Module]:
    """A stock network and the same one fused."""
    fused = fused_gan.FusedMLP([5, 7, 3], activation, activation, 0.2, dtype=torch.float64)
    return fused_gan.unfuse(fused), fused


WAYS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "dual numbers": tangent,
    "dual weights": lambda model, x, direction: of_weights(model, x),
    "linearize": lambda model, x, direction: torch.func.linearize(model, x)[1](direction),
    "jacobian": lambda model, x, direction: jacobian(model, x, strategy="forward-mode", vectorize=True),
}


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
def test_forward_mode(way: Callable[[nn.Module, Tensor, Tensor], Tensor], activation: str) -> None:
    x, direction = torch.randn(2, 4, 5, dtype=torch.float64)
    stock, fused = pair(activation)
    torch.testing.assert_close(way(fused, x, direction), way(stock, x, direction))
    layer = fused_gan.FusedLinear(5, 3, activation=activation, negative_slope=0.2, dtype=torch.float64)
    expected = fused_gan.ops.reference.stock_layers(layer)
    torch.testing.assert_close(way(layer, x, direction), way(expected, x, direction))


def test_backward_through_a_tangent() -> None:
    x, direction = torch.randn(2, 4, 5, dtype=torch.float64)
    stock, fused = pair("tanh")
    for model in (stock, fused):
        tangent(model, x, direction).square().sum().backward()
    for expected, got in zip(stock.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)
