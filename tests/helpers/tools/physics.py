"""DeepXDE: a network that solves a differential equation, trained through second derivatives of its output."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor, nn

from fused_gan import FusedLinear, FusedMLP, fuse
from helpers.tools.table import Numbers, same, tool, with_weights_of

WIDTHS = [1, 8, 8, 1]


def _network(column: str) -> nn.Module:
    """DeepXDE's own network, whose forward calls the activation as a function, or one made of the package's layers."""
    import deepxde as dde

    torch.manual_seed(0)
    stock = dde.nn.FNN(WIDTHS, "tanh", "Glorot normal")
    if column == "stock":
        return stock
    if column == "fuse()":
        return fuse(stock, trace=True)

    class Network(dde.nn.NN):
        def __init__(self, layers: nn.Module) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layers(inputs)

    layers = [FusedLinear(1, 8, activation="tanh"), FusedLinear(8, 8, activation="tanh"), nn.Linear(8, 1)]
    ours = FusedMLP(WIDTHS, "tanh") if column == "FusedMLP" else nn.Sequential(*layers)
    return with_weights_of(stock, Network(ours))


def _residual(position: Tensor, value: Tensor) -> Tensor:
    """Poisson's equation, whose solution is a sine."""
    import deepxde as dde

    return -dde.grad.hessian(value, position) - np.pi**2 * torch.sin(np.pi * position)


def _losses_by_hand(numbers: Numbers) -> None:
    losses, _, points = numbers
    network = _network("stock")
    boundary, inside = points[:2], points[2:].requires_grad_()
    [slope] = torch.autograd.grad(network(inside).sum(), inside, create_graph=True)
    [curvature] = torch.autograd.grad(slope.sum(), inside)
    residual = -curvature - np.pi**2 * torch.sin(np.pi * inside)
    expected = [residual.square().mean(), network(boundary).square().mean()]
    torch.testing.assert_close(losses[0], torch.stack(expected).detach())
    assert losses[-1].sum() < losses[0].sum()


@tool(
    "DeepXDE: dde.Model trained on an equation",
    _losses_by_hand,
    "deepxde",
    fuse=same("as stock, by `fuse(trace=True)`"),
)
def deepxde(column: str) -> Numbers:
    os.environ.setdefault("DDE_BACKEND", "pytorch")  # read once, when DeepXDE is imported
    import deepxde as dde

    torch.set_default_device(None)  # where there is a GPU, the import sets it for the whole process
    ends = dde.geometry.Interval(-1, 1)
    zero = dde.icbc.DirichletBC(ends, lambda _: 0.0, lambda _, on_boundary: on_boundary)
    data = dde.data.PDE(ends, _residual, zero, num_domain=16, num_boundary=2, train_distribution="uniform")
    model = dde.Model(data, _network(column))
    model.compile("sgd", lr=1e-4, verbose=0)
    history, _ = model.train(iterations=5, display_every=1, verbose=0)
    losses = torch.from_numpy(np.array(history.loss_train)).float()
    return [losses, torch.from_numpy(model.predict(data.train_x)), torch.from_numpy(data.train_x)]
