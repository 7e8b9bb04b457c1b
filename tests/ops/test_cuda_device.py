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
from helpers.cases import WAYS
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
# Those that our products have inside. The others follow a product without an epilogue.
INLINED = ("identity", "relu", "leaky_relu", "tanh", "sigmoid")


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


def use(kernel: str, sizes: tuple[int, int, int], dtype: torch.dtype, splits: int, activation: str = "tanh") -> bool:
    """Have the chain's inner products computed by this kernel; False where none of them can be."""
    samples, inputs, outputs = sizes
    name, device = str(dtype).removeprefix("torch."), cuda_plan.capability("cuda")
    aligned, used = cuda_plan.is_aligned(name, inputs, outputs), False
    # Forward of the first layer, and backward from the second layer to the first: a (samples, inputs) gradient through
    # a weight (inputs, outputs).
    for direction, columns, depth in (("forward", outputs, inputs), ("backward", outputs, inputs)):
        epilogue = activation in INLINED and (direction == "backward" or activation != "identity")
        product = cuda_plan.product(name, direction, samples, columns, depth, aligned, epilogue)
        if any(known == kernel and not obstacle for known, _, _, obstacle in native.cuda_candidates(product, device)):
            native.cuda_keep(product, device, kernel, splits)
            used = True
    return used


@pytest.mark.parametrize("activation", WAYS)
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("kernel", list(cuda_plan.NAMES))
def test_every_kernel_keeps_the_tolerance_rule(
    kernel: str, splits: int, sizes: tuple[int, int, int], activation: str, dtype: torch.dtype
) -> None:
    if splits > 1 and not kernel.startswith("mma"):
        pytest.skip("only the mma kernels cut the depth")
    if not use(kernel, sizes, dtype, splits, activation):
        pytest.skip("the kernel does not run this product here")
    tensors, options = chain(sizes, dtype, activation)
    ours, theirs = (gradients(function, tensors, options) for function in (fused_gan.mlp, stock))
    truth = gradients(stock, [tensor.double() for tensor in tensors], options)
    assert_all_as_close_as_stock(ours, theirs, truth)


@pytest.mark.parametrize("kernel", [name for name in cuda_plan.NAMES if name != "library"])
def test_infinities_and_nan_go_through(kernel: str, dtype: torch.dtype) -> None:
    sizes = SHAPES["aligned"]
    used = [use(kernel, sizes, dtype, 1, activation) for activation in ("relu", "gelu")]
    if not any(used):
        pytest.skip("the kernel does not run this product here")
    tensors, _ = chain(sizes, dtype, "identity")
    x, weight, bias = tensors[0], tensors[1], tensors[3]
    for row, value in enumerate((float("inf"), float("-inf"), float("nan"))):
        x[row, 7 * row] = value
    for activation in WAYS:
        ours = fused_gan.linear_act(x, weight, bias, activation, SLOPE)
        theirs = {"output": reference.linear_act(x, weight, bias, activation, SLOPE)}
        truth = {"output": reference.linear_act(x.double(), weight.double(), bias.double(), activation, SLOPE)}
        right = standard(theirs, truth)["output"]
        assert torch.equal(ours.isnan(), right.isnan()), activation
        assert torch.equal(ours.isinf(), right.isinf()), activation


# Hidden activations whose gradients read the pre-activation: those that follow a product, and one that is in it.
HIDDEN: dict[str, tuple[str, dict[str, float]]] = {
    **{name: (name, {}) for name in ("gelu", "silu", "mish", "gelu_tanh", "selu")},
    "elu": ("elu", {"alpha": 0.75}),
    "softplus": ("softplus", {"beta": 1.5, "threshold": 2.0}),
    "negative slope": ("leaky_relu", {"negative_slope": -0.3}),
}


def deep(case: str, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, object]]:
    """Input, weights, biases of a chain with three such layers, and what `mlp` takes besides."""
    activation, parameters = HIDDEN[case]
    widths = (64, 72, 56, 48, 40)
    weights = [random(b, a, dtype=dtype, scale=a**-0.5) for a, b in pairwise(widths)]
    tensors = [random(36, widths[0], dtype=dtype), *weights, *(random(b, dtype=dtype) for b in widths[1:])]
    return tensors, {"activations": [activation] * 3 + ["tanh"], **parameters}


def derivatives(
    function: object, tensors: list[Tensor], options: dict[str, object], frozen: tuple[int, ...] = (), order: int = 1
) -> dict[str, Tensor]:
    """The chain's output and its derivatives of each order, in everything that is not frozen."""
    leaves = [tensor.detach().requires_grad_(i not in frozen) for i, tensor in enumerate(tensors)]
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    depth = len(tensors) // 2
    output = function(leaves[0], leaves[1 : depth + 1], leaves[depth + 1 :], **options)  # type: ignore[operator]
    results = {"output": output}
    torch.manual_seed(1)
    value = (output * random(*output.shape, dtype=torch.float64).to(output.dtype)).sum()
    for k in range(1, order + 1):
        found = torch.autograd.grad(value, asked, create_graph=k < order)
        results |= {f"{i}, order {k}": gradient for i, gradient in enumerate(found)}
        value = sum((gradient.square().sum() for gradient in found), start=value.new_zeros(()))
    return results


@pytest.mark.parametrize("case", HIDDEN)
def test_chains_that_keep_pre_activations(case: str, dtype: torch.dtype) -> None:
    tensors, options = deep(case, dtype)
    ours, theirs = (derivatives(function, tensors, options) for function in (fused_gan.mlp, reference.mlp))
    truth = derivatives(reference.mlp, [tensor.double() for tensor in tensors], options)
    assert_all_as_close_as_stock(ours, theirs, truth, luck=4)


@pytest.mark.parametrize("case", HIDDEN)
def test_second_derivatives_of_chains_that_keep_pre_activations(case: str) -> None:
    tensors, options = deep(case, torch.float64)
    ours, theirs = (derivatives(function, tensors, options, order=2) for function in (fused_gan.mlp, reference.mlp))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("frozen", [(0,), (2, 3), (0, 1, 5), (1, 2, 3, 4), (5, 6, 7, 8)], ids=str)
@pytest.mark.parametrize("case", ["gelu", "negative slope"])
def test_frozen_layers_of_chains_that_keep_pre_activations(case: str, frozen: tuple[int, ...]) -> None:
    """Whatever gradient is not asked for, the others stay. A layer below the first gradient keeps no pre-activation, so
    that another kernel may compute it."""
    tensors, options = deep(case, torch.float32)
    expected = derivatives(fused_gan.mlp, tensors, options)
    results = derivatives(fused_gan.mlp, tensors, options, frozen)
    asked = [i for i in range(len(tensors)) if i not in frozen]
    for place, i in enumerate(asked):
        torch.testing.assert_close(results[f"{place}, order 1"], expected[f"{i}, order 1"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", [("gelu", "relu", "softplus", "silu"), ("tanh", "mish", "identity", "elu")], ids=str)
def test_what_was_read_is_freed_and_no_gradient_changes(names: tuple[str, ...], dtype: torch.dtype) -> None:
    """Outputs and pre-activations, in a plain stream."""
    x = random(24, 40, dtype=dtype)
    weights = [random(40, 40, dtype=dtype, scale=0.2) for _ in names]
    reads_input = [name not in INLINED for name in names]
    tensors = torch.ops.fused_gan.mlp_forward(x, weights, [None] * 4, names, [], [True] * 4, reads_input)
    outputs, preactivations = tensors[:4], tensors[4:]
    arguments = (outputs, preactivations, x, weights, names, [], True, [True] * 4, [True] * 4)
    kept = torch.ops.fused_gan.mlp_backward(outputs[-1], *arguments)
    assert all(tensor.untyped_storage().nbytes() for tensor in tensors)
    freed = torch.ops.fused_gan.mlp_backward_(outputs[-1].clone(), *arguments)
    assert not any(tensor.untyped_storage().nbytes() for tensor in (*outputs[:-1], *preactivations))
    assert outputs[-1].untyped_storage().nbytes()
    assert all(torch.equal(one, other) for one, other in zip(kept, freed, strict=True))


def test_every_pre_activation_can_be_asked_for(dtype: torch.dtype) -> None:
    """Those of identity and of inlined activations too, and they are no output's memory."""
    names = ("gelu", "identity", "tanh", "leaky_relu")
    x = random(24, 40, dtype=dtype)
    weights, biases = [random(40, 40, dtype=dtype, scale=0.2) for _ in names], [random(40, dtype=dtype) for _ in names]
    tensors = torch.ops.fused_gan.mlp_forward(x, weights, biases, names, [], [True] * 4, [True] * 4)
    outputs, preactivations = tensors[:4], tensors[4:]
    assert len({tensor.data_ptr() for tensor in tensors}) == 8
    for i, name in enumerate(names):
        z = torch.nn.functional.linear(x if i == 0 else outputs[i - 1], weights[i], biases[i])
        torch.testing.assert_close(preactivations[i], z)
        torch.testing.assert_close(outputs[i], reference.linear_act(preactivations[i], torch.eye(40).to(z), None, name))


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


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_chains_repeat_bit_for_bit(activation: str, dtype: torch.dtype) -> None:
    tensors, options = chain((200, 512, 1024), dtype, activation)
    first, second = (gradients(fused_gan.mlp, tensors, options) for _ in range(2))
    for name, result in first.items():
        assert torch.equal(result, second[name]), name


@pytest.mark.parametrize("activation", ["leaky_relu", "softplus"])
def test_a_captured_chain_repeats_what_it_did(activation: str, dtype: torch.dtype) -> None:
    tensors, options = chain((64, 256, 512), dtype, activation)
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


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_nothing_waits_for_the_device(activation: str, dtype: torch.dtype) -> None:
    tensors, options = chain((64, 256, 512), dtype, activation)
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
