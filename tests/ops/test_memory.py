"""A chain's forward and backward need no more memory at their peak than stock PyTorch's, and nobody misses what is
freed on the way.

Counted allocation by allocation (benchmarks/memory.py), so that nothing here depends on the machine or on what ran
before.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import fused_gan
from benchmarks.cases import CHAINS, Chain, ChainCase
from benchmarks.memory import peak_memory

chains = pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)


def peaks(chain: Chain, batch: int, dtype: torch.dtype) -> tuple[int, int]:
    variants = ChainCase(chain, batch, dtype).forward_backward()
    return peak_memory(variants["fused_gan"]), peak_memory(variants["eager"])


THREADS = 2
# Bytes of each thread: operands brought together or widened, and sums in float32. Where operands are packed whole, for
# tiles or because their rows lie badly, a second-level cache full of them (docs/design/cpu-kernels.md).
A_THREADS_BLOCKS, A_THREADS_PACKED_BLOCKS = 192 * 1024, 2304 * 1024


def is_packed(chain: Chain, batch: int, dtype: torch.dtype) -> bool:
    plans = (fused_gan.plan((batch, ins, outs), dtype=dtype) for ins, outs in pairwise(chain.widths))
    return any("packed" in plan.backward or "tiles" in plan.backward for plan in plans)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 16, 64, 256, 1024])
@chains
def test_peak_of_a_chain(chain: Chain, batch: int, dtype: torch.dtype, use_threads: Callable[[int], None]) -> None:
    """The bias gradient of the layer below, which stock allocates a moment later, is there at the peak already."""
    use_threads(THREADS)
    ours, stock = peaks(chain, batch, dtype)
    blocks = THREADS * A_THREADS_PACKED_BLOCKS if is_packed(chain, batch, dtype) else 0
    assert ours <= stock + max(chain.widths) * dtype.itemsize + blocks, f"{ours:,} bytes, stock {stock:,}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("batch", [64, 256])
@chains
def test_peak_of_a_chain_in_16_bits(
    chain: Chain, batch: int, dtype: torch.dtype, use_threads: Callable[[int], None]
) -> None:
    """Stock's tensors, and every thread's blocks. What stock's 16-bit products take besides differs from one processor
    to the next, and with what ran in the process before: so stock's tensors are measured in float32, and halved."""
    use_threads(THREADS)
    ours = peak_memory(ChainCase(chain, batch, dtype).forward_backward()["fused_gan"])
    stock = peak_memory(ChainCase(chain, batch, torch.float32).forward_backward()["eager"]) // 2
    blocks = A_THREADS_PACKED_BLOCKS if is_packed(chain, batch, dtype) else A_THREADS_BLOCKS
    assert ours <= 1.05 * stock + THREADS * blocks, f"{ours:,} bytes, stock's tensors {stock:,}"


def test_the_peak_is_what_is_held_at_a_time() -> None:
    """So that the measure itself is measured: freed memory does not count, memory that is handed back does."""

    def call() -> torch.Tensor:
        torch.empty(1000, dtype=torch.uint8)
        torch.empty(3000, dtype=torch.uint8)
        return torch.empty(2000, dtype=torch.uint8)

    assert peak_memory(call) == 3000
    kept: list[torch.Tensor] = []
    assert peak_memory(lambda: kept.extend(call() for _ in range(2))) == 5000


# ---- what is freed on the way ----
NAMES = ("tanh", "relu", "identity", "sigmoid")
MIXED = ("gelu", "relu", "softplus", "silu")  # three of them keep their pre-activations


def network(dtype: torch.dtype = torch.float64) -> tuple[Tensor, list[Tensor]]:
    """The input and the weights of a chain of four layers."""
    torch.manual_seed(0)
    x = torch.randn(7, 24, dtype=dtype, requires_grad=True)
    return x, [torch.randn(24, 24, dtype=dtype).div_(5).requires_grad_() for _ in NAMES]


def run(x: Tensor, weights: list[Tensor]) -> Tensor:
    return fused_gan.mlp(x, weights, [None] * len(weights), NAMES)


@pytest.mark.parametrize("names", [NAMES, MIXED], ids=["outputs", "pre-activations"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_operator_frees_what_was_read_and_changes_no_gradient(dtype: torch.dtype, names: tuple[str, ...]) -> None:
    x, weights = network(dtype)
    reads_input = [name not in NAMES for name in names]
    with torch.no_grad():
        tensors = torch.ops.fused_gan.mlp_forward(x, weights, [None] * 4, names, [], [True] * 4, reads_input)
        outputs, preactivations = tensors[:4], tensors[4:]
        assert len(preactivations) == sum(reads_input)
        grad = torch.randn_like(outputs[-1])
        arguments = (outputs, preactivations, x, weights, names, [], True, [True] * 4, [True] * 4)
        kept = torch.ops.fused_gan.mlp_backward(grad, *arguments)
        assert all(tensor.untyped_storage().nbytes() for tensor in tensors)
        freed = torch.ops.fused_gan.mlp_backward_(grad, *arguments)
    assert [tensor.untyped_storage().nbytes() for tensor in (*outputs[:-1], *preactivations)] == [0] * (
        3 + len(preactivations)
    )
    assert outputs[-1].untyped_storage().nbytes()
    assert len(kept) == len(freed) == 9
    for one, other in zip(kept, freed, strict=True):
        assert torch.equal(one, other)


def test_the_result_and_the_input_stay() -> None:
    x, weights = network()
    batch = x * 1  # not a leaf: saved like an inner output
    output = run(batch, weights)
    before = output.detach().clone(), batch.detach().clone()
    output.sum().backward()
    assert torch.equal(output, before[0])
    assert torch.equal(batch, before[1])


def test_a_graph_that_is_kept_stays_whole() -> None:
    x, weights = network()
    output = run(x, weights).sum()
    first = torch.autograd.grad(output, [x, *weights], retain_graph=True)
    second = torch.autograd.grad(output, [x, *weights], retain_graph=True)
    last = torch.autograd.grad(output, [x, *weights])
    for one, two, three in zip(first, second, last, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output, [x, *weights])


def test_a_second_derivative_through_a_freed_graph_is_refused() -> None:
    """create_graph without retain_graph: the first derivative is right, the second one needs what is gone, as with
    stock layers."""
    x, weights = network()
    (kept,) = torch.autograd.grad(run(x, weights).sum(), x, create_graph=True)
    (dx,) = torch.autograd.grad(run(x, weights).sum(), x, create_graph=True, retain_graph=False)
    assert torch.equal(dx, kept)
    torch.autograd.grad(kept.square().sum(), weights)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(dx.square().sum(), weights)


def test_tensors_that_a_hook_holds_stay() -> None:
    """Hooks on saved tensors may hand out what they hold themselves."""
    x, weights = network()
    held: list[Tensor] = []

    def hold(tensor: Tensor) -> Tensor:
        held.append(tensor)
        return tensor

    plain = torch.autograd.grad(run(x, weights).sum(), [x, *weights])
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        output = run(x, weights).sum()
    copies = [tensor.detach().clone() for tensor in held]
    gradients = torch.autograd.grad(output, [x, *weights])
    assert len(held) > len(NAMES)
    for tensor, copy in zip(held, copies, strict=True):
        assert torch.equal(tensor, copy)
    for one, other in zip(plain, gradients, strict=True):
        assert torch.equal(one, other)


def through_checkpoint(x: Tensor, weights: list[Tensor]) -> Tensor:
    result: Tensor = checkpoint(lambda batch: run(batch, weights), x, use_reentrant=False)
    return result


def through_offloading(x: Tensor, weights: list[Tensor]) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        return run(x, weights)


@pytest.mark.parametrize("way", [through_checkpoint, through_offloading])
def test_other_ways_to_save(way: Callable[[Tensor, list[Tensor]], Tensor]) -> None:
    x, weights = network()
    plain = torch.autograd.grad(run(x, weights).sum(), [x, *weights])
    for one, other in zip(plain, torch.autograd.grad(way(x, weights).sum(), [x, *weights]), strict=True):
        assert torch.equal(one, other)


def test_many_threads_in_one_graph() -> None:
    x, weights = network()
    output = run(x, weights).sum()
    right = torch.autograd.grad(output, [x, *weights], retain_graph=True)
    with ThreadPoolExecutor(4) as threads:
        tasks = [
            threads.submit(torch.autograd.grad, output, [x, *weights], retain_graph=bool(i % 8)) for i in range(64)
        ]
    finished = [task.result() for task in tasks if not task.exception()]
    assert finished
    for gradients in finished:
        for one, other in zip(right, gradients, strict=True):
            assert torch.equal(one, other)
    for task in tasks:
        assert task.exception() is None or "second time" in str(task.exception())


def test_many_gradients_at_once() -> None:
    x, weights = network()
    output = run(x, weights)
    rows = torch.eye(output.numel(), dtype=output.dtype).view(-1, *output.shape)
    one_by_one = torch.stack([torch.autograd.grad(output, x, row, retain_graph=True)[0] for row in rows])
    (together,) = torch.autograd.grad(output, x, rows, is_grads_batched=True)
    torch.testing.assert_close(together, one_by_one)
