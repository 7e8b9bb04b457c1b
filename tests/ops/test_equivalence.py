"""The operator's numbers are as close to the truth as stock PyTorch's, whatever the shape, layout and dtype."""

from __future__ import annotations

import pytest
import torch

from helpers.cases import (
    ACTIVATION_NAMES,
    DTYPES,
    LAYOUTS,
    PARAMETERS,
    SHAPES,
    SLOPES,
    WAYS,
    Arguments,
    Layouts,
    Shape,
    arguments,
)
from helpers.tolerance import assert_as_close_as_stock, assert_equivalent, first_order, needs_longdouble, operators

DTYPE_PARAMETERS = [
    pytest.param(dtype, id=str(dtype)[6:], marks=needs_longdouble if dtype == torch.float64 else ()) for dtype in DTYPES
]
every_way = pytest.mark.parametrize("activation", WAYS)
every_dtype = pytest.mark.parametrize("dtype", DTYPE_PARAMETERS)


@every_dtype
@every_way
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_shapes(shape: Shape, activation: str, dtype: torch.dtype, device: torch.device) -> None:
    assert_equivalent(first_order, arguments(shape, dtype, device), activation)


# A product in blocks, in rows, as it lies, and a column.
KERNELS = ["one above whole tiles", "tall", "shared by threads, few rows", "one output"]


@every_dtype
@pytest.mark.parametrize("activation", [name for name in ACTIVATION_NAMES if name not in WAYS])
@pytest.mark.parametrize("name", KERNELS)
def test_every_activation(name: str, activation: str, dtype: torch.dtype, device: torch.device) -> None:
    assert_equivalent(first_order, arguments(SHAPES[name], dtype, device), activation)


@every_dtype
@pytest.mark.parametrize(("activation", "parameters"), PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("name", KERNELS[:3])
def test_parameters(
    name: str, activation: str, parameters: dict[str, float], dtype: torch.dtype, device: torch.device
) -> None:
    args = arguments(SHAPES[name], dtype, device)
    assert_equivalent(first_order, args, activation, parameters=parameters)


@every_dtype
@pytest.mark.parametrize("activation", ["identity", "tanh"])  # one whose gradient is passed on, one that reads y
@pytest.mark.parametrize("shape", [Shape((70,), 37, 45), Shape((2, 3), 18, 21)], ids=["matrix", "3-D, few rows"])
@pytest.mark.parametrize("layouts", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(layouts: Layouts, shape: Shape, activation: str, dtype: torch.dtype, device: torch.device) -> None:
    assert_equivalent(first_order, arguments(shape, dtype, device, layouts), activation)


@every_dtype
@every_way
@pytest.mark.parametrize("name", ["odd", "1-D input", "no inputs", "one above whole tiles", "shared by threads"])
def test_without_bias(name: str, activation: str, dtype: torch.dtype, device: torch.device) -> None:
    assert_equivalent(first_order, arguments(SHAPES[name], dtype, device, bias=False), activation)


@every_dtype
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("name", ["odd", "one above whole tiles", "one output"])
def test_slopes(name: str, slope: float, dtype: torch.dtype, device: torch.device) -> None:
    assert_equivalent(first_order, arguments(SHAPES[name], dtype, device), "leaky_relu", slope)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "shape",
    [Shape((40_000,), 16, 16), Shape((40_000,), 5, 3), Shape((40,), 20_000, 24), Shape((2,), 40_000, 6)],
    ids=["many rows", "many rows, few outputs", "many inputs", "many inputs, few rows"],
)
def test_long_sums(shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
    """Sums of one sign, as pixels and ReLU's outputs give: an error that grows with every addend shows here."""
    args = Arguments(*(tensor.abs() for tensor in arguments(shape, dtype, device)))
    assert_equivalent(first_order, args, "relu")


@pytest.mark.parametrize("samples", [1, 2, 40], ids=lambda samples: f"{samples} rows")
def test_a_large_bias_beside_a_long_sum(samples: int, device: torch.device) -> None:
    """Added at the end it is rounded once; a sum that starts from it loses digits at every addend."""
    args = arguments(Shape((samples,), 40_000, 7), device=device)
    assert_equivalent(first_order, args._replace(bias=args.bias.abs() * 1000 + 1000), "identity")


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_output_is_contiguous(activation: str, dtype: torch.dtype, device: torch.device) -> None:
    args = arguments(Shape((5, 7, 3), 20, 30), dtype, device)
    output = operators(activation)[0](args.input.transpose(0, 2), args.weight, args.bias)
    assert output.shape == (3, 7, 5, 30)
    assert output.is_contiguous()


def test_products_of_small_integers_are_exact(device: torch.device) -> None:
    """No rounding at all here, so not a single product may be missing or taken twice."""
    for rows, depth, outputs in [(1, 1, 1), (7, 130, 66), (64, 513, 48), (130, 77, 129)]:
        x, w, b, dy = (
            torch.randint(-3, 4, size).float().to(device)
            for size in ((rows, depth), (outputs, depth), (outputs,), (rows, outputs))
        )
        results = first_order(operators("relu")[0], Arguments(x, w, b, dy))
        expected = first_order(operators("relu")[1], Arguments(x, w, b, dy).to(torch.float64))
        for name, result in results.items():
            assert torch.equal(result.double(), expected[name]), f"{name} of {rows} × {depth} → {outputs}"


def test_more_than_2_to_the_31_elements_in_one_argument(device: torch.device) -> None:
    """Expanded, so that it takes no memory: rows all alike give outputs all alike."""
    if device.type != "cpu":
        pytest.skip("cuBLAS takes no stride 0: the copy would fill the device's memory")
    depth, count = 32_768, 70_000
    row, column = torch.randn(1, depth), torch.randn(1, depth)
    expected = torch.relu(row.double() @ column.double().T)
    stock = torch.relu(row @ column.T)
    for x, w in ((row.expand(count, depth), column), (row, column.expand(count, depth))):
        output = operators("relu")[0](x, w, None).flatten()
        assert output.numel() == count
        for position in (0, count // 2, count - 1):
            assert_as_close_as_stock(output[position].view(1, 1), stock, expected, f"output {position}")


def test_rows_more_than_2_to_the_31_elements_apart(device: torch.device) -> None:
    """Memory that is reserved and never touched costs nothing on Linux."""
    if device.type != "cpu":
        pytest.skip("cuBLAS takes no rows so far apart: stock raises; tests/cuda shows the kernels' own offsets")
    try:
        memory = torch.empty(2**31 + 100, device=device)
    except RuntimeError:
        pytest.skip("9 GB cannot be reserved here")
    x = memory.as_strided((2, 40), (2**31 + 50, 1))
    small = arguments(Shape((2,), 40, 9), device=device)
    x.copy_(small.input)
    assert_equivalent(first_order, small._replace(input=x), "tanh")


@pytest.mark.slow
def test_output_of_more_than_2_to_the_31_elements(device: torch.device) -> None:
    """Needs 18 GB."""
    rows = 2**31 // 1000 + 10
    # Of 8 bits each, so that every kernel's products are exact.
    x, w = (torch.randn(count, 1, device=device).bfloat16().float() for count in (rows, 1000))
    output = operators("relu")[0](x, w, None)
    for part in (slice(0, 20), slice(rows - 20, rows)):
        assert torch.equal(output[part], torch.relu(x[part] * w.T))
