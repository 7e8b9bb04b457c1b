"""For the tests of what fuse() must not touch: layers between two runs that fuse, and the report's reasons."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fused_gan.nn.fusing import fuse
from fused_gan.nn.fusion_report import fusion_report
from helpers.networks import assert_same_step, operators_run


def x() -> Tensor:
    return torch.randn(6, 5, dtype=torch.float64)


def network(*layers: nn.Module) -> nn.Sequential:
    """Layers of five features between two runs that fuse in any case."""
    before, after = nn.Sequential(nn.Linear(5, 5), nn.Tanh()), nn.Sequential(nn.Linear(5, 5), nn.Sigmoid())
    return nn.Sequential(*before, nn.Softmax(-1), *layers, nn.Softmax(-1), *after).double()


AROUND = [["tanh"], ["sigmoid"]]


def reasons(model: nn.Module) -> str:
    return "\n".join(site.reason for site in fusion_report(model).left)


def assert_left_alone(stock: nn.Sequential, reason: str) -> None:
    fused = fuse(stock)
    assert_same_step(fused, stock, x())
    assert operators_run(fused, x()) == AROUND
    assert reason in reasons(fused)
