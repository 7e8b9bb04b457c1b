"""BackPACK, Opacus and captum: they hook modules and read what passes through them."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from helpers.tools.table import Cell, Numbers, Tool, network, tool, x


def _gradients_of_each_sample(numbers: Numbers) -> None:
    """The loss is the sum of squares of the output."""
    stock = network("stock")
    rows = [torch.autograd.grad(stock(row).square().sum(), list(stock.parameters())) for row in x()]
    torch.testing.assert_close(numbers, [torch.stack(gradients) for gradients in zip(*rows, strict=True)])


def _warned(tool: Tool, column: str) -> None:
    with (
        pytest.warns(UserWarning, match="not have an extension for Module .*FusedLinear"),
        pytest.raises(AttributeError, match="grad_batch"),
    ):
        tool.run(column)


@tool(
    "BackPACK: BatchGrad",
    _gradients_of_each_sample,
    "backpack-for-pytorch",
    FusedLinear=Cell("a warning, and no `grad_batch`: BackPACK knows no such layer", _warned),
)
def batch_grad(column: str) -> Numbers:
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    model, loss = extend(network(column)), extend(nn.MSELoss(reduction="sum"))
    with backpack(BatchGrad()):
        loss(model(x()), torch.zeros(16, 16)).backward()
    return [p.grad_batch for p in model.parameters()]


def _opacus(mode: str, column: str) -> Numbers:
    from opacus.grad_sample.utils import prepare_module

    model = prepare_module(network(column), mode, loss_reduction="sum")
    model(x()).square().sum().backward()
    return [p.grad_sample for p in model.parameters()]


for _mode in ("hooks", "functorch", "ew"):
    tool(f'Opacus: grad_sample_mode="{_mode}"', _gradients_of_each_sample, "opacus")(functools.partial(_opacus, _mode))


# ---- captum ----------------------------------------------------------------------------------------------------------


def _add_up(numbers: Numbers) -> None:
    """The attributions add up to the difference of the outputs, for the input and for zeros."""
    stock = network("stock")
    difference = (stock(x()) - stock(torch.zeros(16, 16)))[:, 1]
    torch.testing.assert_close(numbers[0].sum(1), difference, rtol=0, atol=1e-2)


@tool("captum: IntegratedGradients", _add_up, "captum")
def integrated_gradients(column: str) -> Numbers:
    from captum.attr import IntegratedGradients

    return [IntegratedGradients(network(column)).attribute(x(), target=1, n_steps=100).detach()]


def _plain_gradients(tool: Tool, column: str) -> None:
    """DeepLift has rules for modules of activations. Where it finds none, it says by how much the sums are wrong."""
    attributions, delta = tool.run(column)
    stock, inputs = network("stock"), x().requires_grad_()
    [gradient] = torch.autograd.grad(stock(inputs)[:, 1].sum(), [inputs])
    torch.testing.assert_close(attributions, gradient * inputs.detach())
    assert delta.abs().max() > 1e-2


@tool(
    "captum: DeepLift",
    _add_up,
    "captum",
    FusedLinear=Cell("input × gradient, and a convergence delta that is not 0: see below", _plain_gradients),
)
def deep_lift(column: str) -> Numbers:
    from captum.attr import DeepLift

    attributions, delta = DeepLift(network(column)).attribute(x(), target=1, return_convergence_delta=True)
    return [attributions.detach(), delta.detach()]


def _gradient_times_activation(numbers: Numbers) -> None:
    stock = network("stock")
    hidden = stock[:2](x()).detach().requires_grad_()
    [gradient] = torch.autograd.grad(stock[2:](hidden)[:, 1].sum(), [hidden])
    torch.testing.assert_close(numbers[0], hidden.detach() * gradient)


@tool("captum: LayerGradientXActivation of the hidden ReLU", _gradient_times_activation, "captum")
def layer_gradients(column: str) -> Numbers:
    from captum.attr import LayerGradientXActivation

    model = network(column)
    activation = model[0] if column == "FusedLinear" else model[1]  # a FusedLinear is its own activation
    return [LayerGradientXActivation(model, activation).attribute(x(), target=1).detach()]
