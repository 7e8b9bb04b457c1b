"""The tables of the processors' families, each on whichever processor runs the tests: how products in blocks read their
operands, where they lie or packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import fused_gan
from fused_gan.ops.library import native
from helpers.cases import Shape, arguments
from helpers.chains import Chain, assert_chain_equals_layers, parameters, run
from helpers.tolerance import assert_equivalent, first_order, operators


@pytest.fixture(params=range(len(native.cpu_families())), ids=native.cpu_families())
def family(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of each table, while that decides, on whichever processor."""
    native.cpu_use_family(request.param)
    yield native.cpu_families()[request.param]
    native.cpu_use_family(None)


def assert_no_bit_depends_on_the_threads(
    use_threads: Callable[[int], None], compute: Callable[[], dict[str, torch.Tensor]]
) -> None:
    results = []
    for threads in (1, 2, 3, 8):
        use_threads(threads)
        results.append(compute())
    for other in results[1:]:
        for name, result in results[0].items():
            assert torch.equal(result, other[name]), name


@pytest.mark.parametrize(
    "shape", [(600, 1100, 1024), (200, 512, 1024), (300, 1024, 200), (80, 512, 600), (5000, 256, 200)], ids=str
)
def test_no_bit_depends_on_the_threads_in_any_family(
    family: str, shape: tuple[int, int, int], use_threads: Callable[[int], None]
) -> None:
    """The cuts of every table: rows 4 KiB long, depths of several blocks and very deep ones, large operands."""
    samples, inputs, outputs = shape
    args = arguments(Shape((samples,), inputs, outputs))
    assert family in fused_gan.plan(shape).backward
    assert_equivalent(first_order, args, "relu")
    assert_no_bit_depends_on_the_threads(use_threads, lambda: first_order(operators("relu")[0], args))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("samples", [80, 100, 200])
def test_a_chain_in_any_family(
    family: str, samples: int, dtype: torch.dtype, use_threads: Callable[[int], None]
) -> None:
    """Gradients that are finished within the product, or in a pass; operands packed, or as they lie; odd widths."""
    chain = Chain((213, 521, 1024, 300), ("leaky_relu", "tanh", "identity"))
    tensors = (torch.randn(samples, 213, dtype=dtype), *parameters(chain, dtype))
    assert_chain_equals_layers(chain, tensors, dtype)
    assert_no_bit_depends_on_the_threads(use_threads, lambda: run(fused_gan.mlp, chain, tensors, dtype))


@pytest.mark.parametrize("shape", [(64, 512, 512), (200, 1024, 1024), (1024, 512, 192)], ids=str)
def test_a_gradient_whose_rows_overlap(family: str, shape: tuple[int, int, int]) -> None:
    """Its elements lie side by side along its rows and down its columns, so both say how it may be read."""
    samples, inputs, outputs = shape
    args = arguments(Shape((samples,), inputs, outputs))
    overlapping = torch.randn(samples + outputs - 1).unfold(0, outputs, 1)
    assert overlapping.stride() == (1, 1)
    x, w = args.input.requires_grad_(), args.weight.requires_grad_()
    results = []
    for grad in (overlapping, overlapping.contiguous()):
        y = fused_gan.linear_act(x, w, None, "identity")
        results.append(torch.autograd.grad(y, (x, w), grad))
    for ours, dense in zip(*results, strict=True):
        assert torch.equal(ours, dense)
