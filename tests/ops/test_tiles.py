"""Products on tiles: the model of the instructions is the hardware bit for bit, and float32 in planes of bfloat16 is as
close to the truth as stock's, whatever its magnitudes.

tests/ops/test_instruction_sets.py runs the operator's tests on the model, and this file too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fused_gan
from fused_gan.ops import reference
from fused_gan.ops.activations import UNSCALED
from fused_gan.ops.library import native
from helpers.cases import Arguments, Shape, arguments
from helpers.tolerance import assert_as_close_as_stock, assert_equivalent, first_order, operators

CAPABILITY = fused_gan.build_info()["cpu_capability"]
on_tiles = pytest.mark.skipif(not CAPABILITY.startswith("amx"), reason="no tiles in use here")
SHAPES = {
    "odd": Shape((70,), 37, 45),
    "few rows": Shape((19,), 300, 70),
    "one row": Shape((1,), 333, 450),
    "one output": Shape((600,), 99, 1),
    "deep": Shape((40,), 1090, 33),
    "many rows": Shape((1030,), 100, 70),
    "shared by threads": Shape((300,), 257, 193),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


# ---- the model against the hardware ----
def spread(dtype: torch.dtype, *sizes: int) -> Tensor:
    """Magnitudes from the type's smallest numbers to its large ones."""
    octaves = 12 if dtype == torch.float16 else 60
    return (torch.randn(sizes) * torch.exp2(torch.randint(-octaves, octaves, sizes).float())).to(dtype)


def any_bits(dtype: torch.dtype, *sizes: int) -> Tensor:
    """Every number, Inf and NaN included."""
    return torch.randint(-(2**15), 2**15, sizes, dtype=torch.int32).to(torch.int16).view(dtype)


def results() -> dict[str, Tensor]:
    """Layers and chains, forward and backward, in each type that is multiplied on tiles."""
    torch.manual_seed(0)
    native.cpu_three_planes_from(0)
    found: dict[str, Tensor] = {}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for name, shape in SHAPES.items():
            for values in (arguments(shape, dtype), wide_arguments(shape, dtype)):
                for activation in ("identity", "leaky_relu"):  # tanh may be rounded in another way without FMA
                    for what, result in first_order(operators(activation)[0], values).items():
                        found[f"{dtype} {name} {activation} {what} {len(found)}"] = result.detach()
        widths = (37, 300, 70, 33)
        weights = [(torch.randn(b, a) * a**-0.5).to(dtype) for a, b in pairwise(widths)]
        for rows in (5, 70, 600):
            output = torch.ops.fused_gan.mlp_forward(
                torch.randn(rows, 37).to(dtype),
                weights,
                [None] * 3,
                ["relu", "leaky_relu", "hardtanh"],
                [0.0, 0.0, *UNSCALED, 0.2, 0.0, *UNSCALED, -0.5, 0.75, *UNSCALED],
                [True] * 3,
                [False, True, True],
            )
            found |= {f"{dtype} chain {rows} {i}": y for i, y in enumerate(output)}
    x, w = any_bits(torch.bfloat16, 64, 96), any_bits(torch.bfloat16, 64, 96)
    found["bfloat16 any bits"] = fused_gan.linear_act(x, w)
    return found


def wide_arguments(shape: Shape, dtype: torch.dtype) -> Arguments:
    (rows,), ins, outs = shape
    return Arguments(spread(dtype, rows, ins), spread(dtype, outs, ins), spread(dtype, outs), spread(dtype, rows, outs))


@pytest.mark.skipif(CAPABILITY != "amx", reason="no AMX in use here")
def test_the_model_is_the_hardware_bit_for_bit(tmp_path: Path) -> None:
    program = "import torch, test_tiles; torch.save(test_tiles.results(), 'results.pt')"
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "FUSED_GAN_CPU_CAPABILITY": "amx_model", "PYTHONPATH": folders}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True, timeout=600)
    model = torch.load(tmp_path / "results.pt", weights_only=True)
    try:
        hardware = results()
    finally:
        native.cpu_three_planes_from(None)
    assert model.keys() == hardware.keys()
    for name, result in hardware.items():
        same = (model[name] == result) | (model[name].isnan() & result.isnan())
        assert same.all(), f"{name}: {int((~same).sum())} of {same.numel()} differ"


# ---- float32 in three planes ----
@pytest.fixture
def three_planes() -> Iterator[None]:
    native.cpu_three_planes_from(0)
    assert "float32 as 3 of bfloat16" in fused_gan.plan((64, 64, 64)).forward
    yield
    native.cpu_three_planes_from(None)


@on_tiles
@shapes
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu", "tanh", "sigmoid"])
def test_three_planes(activation: str, shape: Shape, three_planes: None) -> None:
    # A single output's bias gradient is one sum, which may happen to cancel.
    assert_equivalent(first_order, arguments(shape), activation, luck=2)


SCALES = [
    (2.0**-50, 2.0**-50),
    (2.0**-110, 1.0),
    (2.0**-112, 2.0**60),
    (2.0**-122, 2.0**100),
    (2.0**-128, 2.0**60),
    (2.0**-140, 2.0**30),
    (2.0**100, 2.0**20),
]


@on_tiles
@pytest.mark.parametrize("scales", SCALES)
def test_three_planes_of_tiny_and_huge_numbers(scales: tuple[float, float], three_planes: None) -> None:
    args = arguments(Shape((70,), 64, 48))
    scaled = args._replace(input=args.input * scales[0], weight=args.weight * scales[1], bias=args.bias * 0)
    assert_equivalent(first_order, scaled, "identity")


@on_tiles
def test_a_row_far_smaller_than_the_rest_keeps_its_digits(three_planes: None) -> None:
    args = arguments(Shape((70,), 64, 48), bias=False)
    args.input[13] *= 2.0**-110
    ours, stock = (operator(*args[:3]) for operator in operators("identity"))
    truth = operators("identity")[1](*args.to(torch.float64)[:3])
    assert_as_close_as_stock(ours[13], stock[13], truth[13], "the row")


@on_tiles
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 3.4e38], ids=str)
def test_what_planes_cannot_hold_goes_another_way(value: float, three_planes: None) -> None:
    args = arguments(Shape((70,), 64, 48))
    args.input[5, 7] = value
    ours, stock = (first_order(operator, args) for operator in operators("relu"))
    for name, result in ours.items():
        torch.testing.assert_close(result, stock[name], equal_nan=True, rtol=1e-4, atol=1e-4)


@on_tiles
def test_nan_stays_in_its_row(three_planes: None) -> None:
    args = arguments(Shape((70,), 64, 48))
    clean = operators("relu")[0](*args[:3])
    args.input[5, 7] = float("nan")
    spoiled = operators("relu")[0](*args[:3])
    others = torch.arange(70) != 5
    assert spoiled[5].isnan().all()
    assert torch.equal(spoiled[others], clean[others])


@on_tiles
def test_no_bit_depends_on_the_threads(three_planes: None, use_threads: Callable[[int], None]) -> None:
    args = arguments(Shape((300,), 1100, 193))
    found = []
    for threads in (1, 2, 3):
        use_threads(threads)
        found.append(first_order(operators("tanh")[0], args))
    for other in found[1:]:
        for name, result in found[0].items():
            assert torch.equal(result, other[name]), name


@on_tiles
def test_a_chain_whose_step_does_not_hold(three_planes: None) -> None:
    """Backward goes another way from where a gradient is infinite, bias gradients included."""
    x, grad = torch.randn(70, 64), torch.randn(70, 40)
    grad[3, 5] = float("inf")
    weights = [torch.randn(48, 64) / 8, torch.randn(40, 48) / 7]
    biases = [torch.randn(48), torch.randn(40)]
    found = []
    for mlp in (fused_gan.mlp, reference.mlp):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, *weights, *biases)]
        output = mlp(leaves[0], leaves[1:3], leaves[3:], ["leaky_relu", "identity"], 0.2)
        found.append(torch.autograd.grad(output, leaves, grad))
    for ours, stock in zip(*found, strict=True):
        torch.testing.assert_close(ours, stock, equal_nan=True, rtol=1e-4, atol=1e-4)


# ---- float16 in two planes ----
def test_float16_sums_that_cancel() -> None:
    """The product of the two smaller planes is 2^-16 of the whole, and all that a row is off by would show."""
    e = 2.0**-8
    x = torch.full((64, 96), 1 + e).half()
    w = torch.tensor([1 + e, -(1 + 2 * e), 0.75 * e]).repeat(32).expand(64, 96).contiguous().half()
    ours, stock = (operator(x, w, None) for operator in operators("identity"))
    assert_as_close_as_stock(ours, stock, x.double() @ w.double().t(), "output")


# ---- PyTorch's settings ----
@on_tiles
@shapes
def test_float32_is_multiplied_in_bfloat16_where_the_user_allows_it(shape: Shape) -> None:
    args = arguments(shape)
    precise = first_order(operators("identity")[0], args)  # with a kink, a few signs turn
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        ours = first_order(operators("identity")[0], args)
        said = fused_gan.plan((shape.leading[0], *shape[1:])).forward
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert "float32 as 1 of bfloat16" in said
    for name, result in ours.items():
        off = (result - precise[name]).norm() / precise[name].norm()
        assert off < 2.0**-7, name
        assert name == "gradient of bias" or off > 2.0**-14, name
