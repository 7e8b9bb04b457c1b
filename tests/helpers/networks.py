"""For the tests of fuse(): which operators a call runs, and whether a fused network does what the stock one does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from fused_gan.ops import functional


@contextmanager
def recorded() -> Iterator[list[list[str]]]:
    """The activations of each operator that runs, in order."""
    ran: list[list[str]] = []

    def linear_act(input, weight, bias, activation, parameters):  # type: ignore[no-untyped-def]
        ran.append([activation])
        return real_linear_act(input, weight, bias, activation, parameters)

    def mlp(input, weights, biases, activations, parameters):  # type: ignore[no-untyped-def]
        ran.append(list(activations))
        return real_mlp(input, weights, biases, activations, parameters)

    real_linear_act, real_mlp = functional._linear_act, functional._mlp
    with (
        mock.patch.object(functional, "_linear_act", linear_act),
        mock.patch.object(functional, "_mlp", mlp),
    ):
        yield ran


def operators_run(model: Callable[..., object], *args: object) -> list[list[str]]:
    with recorded() as ran:
        model(*args)
    return ran


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output, all gradients and all buffers after one forward and backward from the same random state."""
    model.zero_grad()
    x = x.detach().requires_grad_()
    torch.manual_seed(1)
    output = model(x)
    output.square().sum().backward()
    results = {"output": output.detach(), "gradient of input": x.grad}
    results |= {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return results | {name: buffer.clone() for name, buffer in model.named_buffers()}


# Whose gradients in float64 PyTorch 2.13 computes with a constant (1/6, or 1 / alpha) that it rounded to float32.
ROUNDED_IN_STOCK = ("hardsigmoid", "celu")


def assert_same_step(fused: nn.Module, stock: nn.Module, x: Tensor, *activations: str) -> None:
    """Both in float64, where two orders of summation are the same but for the last digits.

    With one of `ROUNDED_IN_STOCK` among the activations, the same but for the last digits of float32.
    """
    rtol, atol = (1e-5, 1e-7) if set(activations) & set(ROUNDED_IN_STOCK) else (1e-9, 1e-11)
    ours, theirs = step(copy.deepcopy(fused), x), step(copy.deepcopy(stock), x)
    assert ours.keys() == theirs.keys()
    for name, result in ours.items():
        torch.testing.assert_close(result, theirs[name], rtol=rtol, atol=atol, msg=lambda t, n=name: f"{n}: {t}")


@contextmanager
def one_process() -> Iterator[DeviceMesh]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()
