"""FlopCounterMode counts as many operations of a fused model as of the stock one, forward and backward."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import fused_gan
from fused_gan.ops import reference


def stock() -> nn.Sequential:
    return nn.Sequential(nn.Linear(7, 12), nn.ReLU(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3), nn.Sigmoid())


def counted(model: Callable[[Tensor], Tensor], x: Tensor) -> tuple[int, int]:
    """Return the counts of forward alone, without gradients, and of forward and backward together."""
    with FlopCounterMode(display=False) as alone, torch.inference_mode():
        model(x.detach())
    with FlopCounterMode(display=False) as both:
        model(x).sum().backward()
    return alone.get_total_flops(), both.get_total_flops()


@pytest.mark.parametrize("shape", [(4, 7), (7,), (2, 3, 7), (0, 7)], ids=str)
@pytest.mark.parametrize("input_wanted", [False, True])
@pytest.mark.parametrize("frozen", [(), ("0",), ("0", "2"), ("4",), ("0.weight",), ("2.bias", "4.weight")], ids=str)
def test_a_chain_counts_as_stock(shape: tuple[int, ...], input_wanted: bool, frozen: tuple[str, ...]) -> None:
    model = stock()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen) if frozen else True)
    x = torch.randn(shape, requires_grad=input_wanted)
    assert counted(fused_gan.fuse(model), x) == counted(model, x)


@pytest.mark.parametrize(
    "wanted", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
)
def test_a_layer_counts_as_stock(wanted: tuple[bool, bool, bool]) -> None:
    tensors = [torch.randn(size).requires_grad_(one) for size, one in zip([(4, 7), (5, 7), (5,)], wanted, strict=True)]

    def run(function: Callable[..., Tensor]) -> int:
        with FlopCounterMode(display=False) as counter:
            function(*tensors, "leaky_relu", 0.2).sum().backward()
        return counter.get_total_flops()

    assert run(fused_gan.linear_act) == run(reference.linear_act) > 0


@pytest.mark.parametrize("first", ["fused_gan", "torch.utils.flop_counter"])
def test_the_counter_is_not_imported_before_somebody_wants_it(first: str) -> None:
    """It imports triton, where that is installed."""
    program = f"""
import sys, torch, {first}, fused_gan
assert ("torch.utils.flop_counter" in sys.modules) == ("{first}" != "fused_gan")
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter:
    fused_gan.linear_act(torch.ones(2, 3), torch.ones(4, 3))
assert counter.get_total_flops() == 48, counter.get_total_flops()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
