"""On a GPU: every product kernel, chosen through the plan, keeps the tolerance rule; chains equal their layers; graphs
and determinism. The kernels themselves are compared in detail by tests/cuda, which needs no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import fused_gan
from fused_gan import tuning
from fused_gan.ops import cuda_plan, library, reference
from helpers.cases import ACTIVATION_NAMES
from helpers.tolerance import assert_all_as_close_as_stock, standard

if not torch.cuda.is_available() or fused_gan.build_info()["cuda"] is None:
    pytest.skip("no GPU, or a build without CUDA", allow_module_level=True)
native = library.native

PRECISIONS = {
    "bfloat16": (torch.bfloat16, "highest"),
    "float16": (torch.float16, "highest"),
    "float32": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),
}
# But for the last, large enough for tf32, where it is allowed.
SHAPES = {"aligned": (96, 520, 584), "whole tiles": (256, 512, 1024), "odd": (65, 515, 523), "few rows": (3, 1040, 256)}
SLOPE = 0.2


@pytest.fixture(params=PRECISIONS)
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """A dtype, with PyTorch's float32 setting that goes with it."""
    before = torch.get_float32_matmul_precision()
    dtype, setting = PRECISIONS[request.param]
    torch.set_float32_matmul_precision(setting)
    yield dtype
    torch.set_float32_matmul_precision(before)


@pytest.fixture(autouse=True)
def own_plan() -> Iterator[None]:
    """Choices that a test makes are its own."""
    yield
    tuning.replace()
    tuning.install_kept()


def random(*sizes: int, dtype: torch.dtype, scale: float = 1) -> Tensor:
    """Normal. Where tf32 is allowed, numbers that it holds: else z near 0 changes its sign, and ReLU its gradient."""
    values = torch.randn(*sizes, dtype=torch.float64) * scale
    if torch.get_float32_matmul_precision() != "highest":
        values = values.bfloat16()
    return values.to("cuda", dtype)


def chain(sizes: tuple[int, int, int], dtype: torch.dtype, activation: str) -> tuple[list[Tensor], dict[str, object]]:
    """Input, weights, biases of two layers, and what `mlp` takes besides: act, then identity."""
    samples, inputs, outputs = sizes
    widths = (inputs, outputs, inputs)
    weights = [random(b, a, dtype=dtype, scale=a**-0.5) for a, b in pairwise(widths)]
    tensors = [random(samples, inputs, dtype=dtype), *weights, *(random(b, dtype=dtype) for b in widths[1:])]
    return tensors, {"activations": [activation, "identity"], "negative_slope": SLOPE}


def gradients(function: object, tensors: list[Tensor], options: dict[str, object]) -> dict[str, Tensor]:
    """The chain's output and every gradient."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = function(leaves[0], leaves[1:3], leaves[3:], **options)  # type: ignore[operator]
    torch.manual_seed(1)
    grad = random(*output.shape, dtype=torch.float64).to(output.dtype)
    names = ("input", "weight 0", "weight 1", "bias 0", "bias 1")
    return {"output": output, **dict(zip(names, torch.autograd.grad(output, leaves, grad), strict=True))}


def stock(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], activations: list[str], negative_slope: float
) -> Tensor:
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        x = reference.linear_act(x, weight, bias, activation, negative_slope)
    return x


def use(kernel: str, sizes: tuple[int, int, int], dtype: torch.dtype, splits: int) -> bool:
    """Have the chain's inner products computed by this kernel; False where none of them can be."""
    samples, inputs, outputs = sizes
    name, device = str(dtype).removeprefix("torch."), cuda_plan.capability("cuda")
    aligned, used = cuda_plan.is_aligned(name, inputs, outputs), False
    # Forward of the first layer, and backward from the second layer to the first: a (samples, inputs) gradient through
    # a weight (inputs, outputs).
    for direction, columns, depth in (("forward", outputs, inputs), ("backward", outputs, inputs)):
        product = cuda_plan.product(name, direction, samples, columns, depth, aligned)
        if any(known == kernel and not obstacle for known, _, _, obstacle in native.cuda_candidates(product, device)):
            native.cuda_keep(product, device, kernel, splits)
            used = True
    return used


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("kernel", list(cuda_plan.NAMES))
def test_every_kernel_keeps_the_tolerance_rule(
    kernel: str, splits: int, sizes: tuple[int, int, int], activation: str, dtype: torch.dtype
) -> None:
    if splits > 1 and not kernel.startswith("mma"):
        pytest.skip("only the mma kernels cut the depth")
    if not use(kernel, sizes, dtype, splits):
        pytest.skip("the kernel does not run this product here")
    tensors, options = chain(sizes, dtype, activation)
    ours, theirs = (gradients(function, tensors, options) for function in (fused_gan.mlp, stock))
    truth = gradients(stock, [tensor.double() for tensor in tensors], options)
    assert_all_as_close_as_stock(ours, theirs, truth)


@pytest.mark.parametrize("kernel", [name for name in cuda_plan.NAMES if name != "library"])
def test_infinities_and_nan_go_through(kernel: str, dtype: torch.dtype) -> None:
    sizes = SHAPES["aligned"]
    if not use(kernel, sizes, dtype, 1):
        pytest.skip("the kernel does not run this product here")
    tensors, _ = chain(sizes, dtype, "identity")
    x, weight, bias = tensors[0], tensors[1], tensors[3]
    for row, value in enumerate((float("inf"), float("-inf"), float("nan"))):
        x[row, 7 * row] = value
    for activation in ACTIVATION_NAMES:
        ours = fused_gan.linear_act(x, weight, bias, activation, SLOPE)
        theirs = {"output": reference.linear_act(x, weight, bias, activation, SLOPE)}
        truth = {"output": reference.linear_act(x.double(), weight.double(), bias.double(), activation, SLOPE)}
        right = standard(theirs, truth)["output"]
        assert torch.equal(ours.isnan(), right.isnan()), activation
        assert torch.equal(ours.isinf(), right.isinf()), activation


def test_small_layers_stay_in_float32_where_tf32_is_allowed() -> None:
    """As cuBLAS's do: what tf32's setting changes in a chain is less than the roundings of float32."""
    tensors, options = chain((64, 256, 256), torch.float32, "tanh")
    grad = random(64, 256, dtype=torch.float32)

    def results(function: object, tensors: list[Tensor]) -> dict[str, Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        output = function(leaves[0], leaves[1:3], leaves[3:], **options)  # type: ignore[operator]
        return {"output": output, "input": torch.autograd.grad(output, leaves[0], grad.to(output.dtype))[0]}

    torch.set_float32_matmul_precision("high")
    try:
        ours = results(fused_gan.mlp, tensors)
    finally:
        torch.set_float32_matmul_precision("highest")
    theirs, truth = results(stock, tensors), results(stock, [tensor.double() for tensor in tensors])
    assert_all_as_close_as_stock(ours, theirs, truth, luck=2)


def test_chains_repeat_bit_for_bit(dtype: torch.dtype) -> None:
    tensors, options = chain((200, 512, 1024), dtype, "tanh")
    first, second = (gradients(fused_gan.mlp, tensors, options) for _ in range(2))
    for name, result in first.items():
        assert torch.equal(result, second[name]), name


def test_a_captured_chain_repeats_what_it_did(dtype: torch.dtype) -> None:
    tensors, options = chain((64, 256, 512), dtype, "leaky_relu")
    expected = gradients(fused_gan.mlp, tensors, options)
    grad = torch.ones_like(expected["output"])
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]

    def step() -> tuple[Tensor, ...]:
        output = fused_gan.mlp(leaves[0], leaves[1:3], leaves[3:], **options)
        return output.detach(), *torch.autograd.grad(output, leaves, grad)

    # All on one stream: while an autograd graph lives, its leaves bind it to the stream of their first use, and a
    # capture on another breaks off.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        eager = step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        replayed = step()
    for _ in range(3):
        for tensor in replayed:
            tensor.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        for one, other in zip(eager, replayed, strict=True):
            assert torch.equal(one, other)


def test_nothing_waits_for_the_device(dtype: torch.dtype) -> None:
    tensors, options = chain((64, 256, 512), dtype, "relu")
    gradients(fused_gan.mlp, tensors, options)
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    grad = torch.ones(64, 256, device="cuda", dtype=dtype)
    torch.cuda.set_sync_debug_mode("error")
    try:
        output = fused_gan.mlp(leaves[0], leaves[1:3], leaves[3:], **options)
        torch.autograd.grad(output, leaves, grad)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_deterministic_mode_is_obeyed(dtype: torch.dtype) -> None:
    """Nothing refuses to run in it, and it changes no bit of what is ours alone."""
    tensors, options = chain((200, 264, 520), dtype, "tanh")
    plain = gradients(fused_gan.mlp, tensors, options)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (gradients(fused_gan.mlp, tensors, options) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for name, result in first.items():
        assert torch.equal(result, second[name]), name
    for layer in (0, 1):
        torch.testing.assert_close(first[f"bias {layer}"], plain[f"bias {layer}"])


@pytest.mark.parametrize("kernel", ["library", "wgmma_128x256", "mma_128x128", "mma_32x32"])
def test_more_than_two_to_the_31_elements(kernel: str) -> None:
    """Rows of a chain that holds more, beside the same rows by themselves; the others get a gradient of zero."""
    sizes = rows, width, _ = (2**21 + 3, 1032, 1032)
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < 10 * rows * width * 2:
        pytest.skip("not enough memory on this device")
    if not use(kernel, sizes, torch.bfloat16, 1):
        pytest.skip("the kernel does not run this product here")
    picked = torch.cat([torch.arange(start, start + 70) for start in (0, rows // 2, rows - 70)]).to("cuda")
    tensors, options = chain((len(picked), width, width), torch.bfloat16, "tanh")
    everything = torch.randn(rows, width, device="cuda", dtype=torch.bfloat16)

    def among_others(x: Tensor, weights: list[Tensor], biases: list[Tensor], **options: object) -> Tensor:
        output = fused_gan.mlp(everything.index_copy(0, picked, x), weights, biases, **options)
        return output.index_select(0, picked)

    ours, theirs = gradients(among_others, tensors, options), gradients(stock, tensors, options)
    truth = gradients(stock, [tensor.double() for tensor in tensors], options)
    assert_all_as_close_as_stock(ours, theirs, truth)


def test_autotune_finds_plans_and_keeps_them(tmp_path: object) -> None:
    path = tmp_path / "plans" / "measured.json"  # type: ignore[operator]
    records = fused_gan.autotune([(64, 256, 512)], [torch.bfloat16], path=path)
    assert [record.direction for record in records] == ["forward", "backward"]
    assert tuning.read(path).records == tuple(records)
    for record in records:
        assert native.cuda_decision(record.product, cuda_plan.capability("cuda"))[2]
