"""What only a backward would read is not held where none reads it: at inference, below frozen layers, and where an
optimizer takes each gradient during backward. Counted allocation by allocation, as in test_memory.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fused_gan
from benchmarks.memory import peak_memory

WIDTH = 256
# What each thread may hold for a moment besides (operands packed or widened), as in test_memory.py. Deep chains of
# large batches hold far more in one layer's output.
A_THREADS_BLOCKS = 2304 * 1024


def pair(depth: int, dtype: torch.dtype, activation: str = "relu") -> tuple[nn.Module, nn.Module]:
    """A fused and a stock network with the same weights."""
    torch.manual_seed(0)
    ours = fused_gan.FusedMLP([WIDTH] * (depth + 1), activation, activation, dtype=dtype)
    return ours, fused_gan.unfuse(ours)


def peak_of_inference(network: nn.Module, batch: int, dtype: torch.dtype, mode: Callable[[], object]) -> int:
    x = torch.randn(batch, WIDTH, dtype=dtype)

    def run() -> Tensor:
        with mode():  # type: ignore[attr-defined]
            return network(x)

    run()  # which compiles a network that wants it
    return peak_memory(run)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad], ids=["inference_mode", "no_grad"])
@pytest.mark.parametrize("depth", [2, 4, 16])
@pytest.mark.parametrize("batch", [64, 256, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_inference(
    dtype: torch.dtype, batch: int, depth: int, mode: Callable[[], object], use_threads: Callable[[int], None]
) -> None:
    use_threads(1)
    ours, stock = (peak_of_inference(network, batch, dtype, mode) for network in pair(depth, dtype))
    # The panels of the weights, or of a batch that does not fill its last panel.
    assert ours <= stock + WIDTH * WIDTH * dtype.itemsize, f"{ours:,} bytes, stock {stock:,}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_inference_needs_no_more_for_more_layers(dtype: torch.dtype, use_threads: Callable[[int], None]) -> None:
    use_threads(1)
    few, many = (peak_of_inference(pair(depth, dtype)[0], 2048, dtype, torch.inference_mode) for depth in (3, 16))
    assert few == many


def test_compiled_inference_needs_no_more_for_more_layers(use_threads: Callable[[int], None]) -> None:
    use_threads(1)
    networks = [torch.compile(pair(n, torch.float32)[0], backend="aot_eager", fullgraph=True) for n in (3, 12)]
    few, many = (peak_of_inference(network, 2048, torch.float32, torch.inference_mode) for network in networks)
    assert few == many


@pytest.mark.parametrize("frozen", [1, 4, 15])
def test_training_above_frozen_layers(frozen: int, use_threads: Callable[[int], None]) -> None:
    use_threads(1)
    x = torch.randn(1024, WIDTH)

    def step(network: nn.Module) -> None:
        network(x).sum().backward()
        network.zero_grad()

    ours, stock = pair(16, torch.float32, "tanh")
    for network in (ours, stock):
        for layer in network[: 2 * frozen]:
            layer.requires_grad_(False)
    found, expected = peak_memory(lambda: step(ours)), peak_memory(lambda: step(stock))
    assert found <= expected + WIDTH * 4 + A_THREADS_BLOCKS, f"{found:,} bytes, stock {expected:,}"
    assert frozen < 4 or found < peak_memory(lambda: step(pair(16, torch.float32, "tanh")[0]))


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
def test_an_optimizer_that_steps_during_backward(autocast: bool, use_threads: Callable[[int], None]) -> None:
    """PyTorch's tutorial on optimizers in backward: each gradient is used and freed before the next one is made."""
    use_threads(1)
    x = torch.randn(16, WIDTH)

    def take(parameter: Tensor) -> None:
        with torch.no_grad():
            parameter -= 0.01 * parameter.grad
        parameter.grad = None

    def step(network: nn.Module) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = network(x)
        output.float().sum().backward()

    ours, stock = pair(16, torch.float32, "tanh")
    for network in (ours, stock):
        for parameter in network.parameters():
            parameter.register_post_accumulate_grad_hook(take)
    found, expected = peak_memory(lambda: step(ours)), peak_memory(lambda: step(stock))
    for one, other in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one, other, **({"rtol": 0.02, "atol": 0.02} if autocast else {}))
    assert found <= expected + 2 * WIDTH * 4, f"{found:,} bytes, stock {expected:,}"
