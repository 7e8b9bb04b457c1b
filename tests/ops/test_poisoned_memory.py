"""A result depends on its arguments' elements alone: not on what lies between, before or behind them in memory, and of
other rows no more than mathematics says.

tests/ops/test_instruction_sets.py runs this file once more on every other instruction set.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fused_gan
from helpers.cases import DTYPES, Arguments, Shape, arguments
from helpers.chains import SLOPE, Chain
from helpers.tolerance import Results, first_order, operators

NAN, INF = float("nan"), float("inf")
IN_PLANES = fused_gan.build_info()["cpu_capability"].startswith("amx")
# Depths that are no multiple of 32, in one direction or in all; from 18 rows on, fewer, and many.
SIZES = {
    "odd": Shape((70,), 37, 45),
    "one above 32": Shape((33,), 33, 65),
    "one below 64": Shape((63,), 63, 31),
    "barely more than 16 rows": Shape((18,), 100, 50),
    "few rows": Shape((3,), 250, 70),
    "one row": Shape((1,), 333, 45),
    "one output": Shape((65,), 99, 1),
    "many rows": Shape((530,), 41, 23),
    "several blocks of the depth": Shape((50,), 1090, 30),
    "tiny": Shape((18,), 9, 11),
    "shared by threads": Shape((130,), 130, 70),
    "rows 4 KiB apart when poisoned": Shape((520,), 944, 530),
}
sizes = pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


def rows_apart(values: Tensor, poison: float, step: int = 1) -> Tensor:
    """The values, `step` elements apart, with poison before, behind and between the rows."""
    gap = 40  # more than a register or a tile holds beyond the end of a row
    length = step * values.shape[-1]
    memory = torch.full((*values.shape[:-1], length + 2 * gap), poison, dtype=values.dtype)
    inside = memory[..., gap : gap + length : step]
    inside.copy_(values)
    return inside


def columns_apart(values: Tensor, poison: float) -> Tensor:
    """The same with the columns as the memory's rows; of a vector, elements apart."""
    return rows_apart(values, poison, 3) if values.dim() == 1 else rows_apart(values.t(), poison).t()


def elements_apart(values: Tensor, poison: float) -> Tensor:
    return rows_apart(values, poison, 2)


LAYOUTS = [rows_apart, columns_apart, elements_apart]
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
poisons = pytest.mark.parametrize("poison", [NAN, INF], ids=["nan", "inf"])


def assert_same_bits(poisoned: Results, clean: Results) -> None:
    for name, result in clean.items():
        assert result.isfinite().all(), name
        assert torch.equal(poisoned[name], result), name


@sizes
@every_dtype
@layouts
@poisons
def test_a_layer(poison: float, layout: Callable[..., Tensor], dtype: torch.dtype, shape: Shape) -> None:
    args = arguments(shape, dtype)
    poisoned = Arguments(*(layout(tensor, poison) for tensor in args))
    for activation in ("identity", "tanh"):  # one whose gradient is passed on, one that reads the output
        ours = operators(activation)[0]
        assert_same_bits(first_order(ours, poisoned), first_order(ours, args))


def chain_results(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], grad: Tensor, activations: tuple[str, ...]
) -> Results:
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights, *biases)]
    output = fused_gan.mlp(leaves[0], leaves[1 : 1 + len(weights)], leaves[1 + len(weights) :], activations, SLOPE)
    gradients = torch.autograd.grad(output, leaves, grad)
    return {"output": output.detach()} | {f"gradient {i}": gradient for i, gradient in enumerate(gradients)}


CHAIN = Chain((37, 70, 45, 33), ("relu", "tanh", "identity"))


def chain_tensors(rows: int, dtype: torch.dtype) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    widths = list(zip(CHAIN.widths, CHAIN.widths[1:], strict=False))
    return (
        torch.randn(rows, CHAIN.widths[0]).to(dtype),
        [(torch.randn(b, a) * a**-0.5).to(dtype) for a, b in widths],
        [torch.randn(b).to(dtype) for _, b in widths],
        torch.randn(rows, CHAIN.widths[-1]).to(dtype),
    )


@every_dtype
@layouts
@poisons
@pytest.mark.parametrize("rows", [3, 18, 70, 530])
def test_a_chain(rows: int, poison: float, layout: Callable[..., Tensor], dtype: torch.dtype) -> None:
    x, weights, biases, grad = chain_tensors(rows, dtype)
    clean = chain_results(x, weights, biases, grad, CHAIN.activations)
    poisoned = chain_results(
        layout(x, poison),
        [layout(weight, poison) for weight in weights],
        [layout(bias, poison) for bias in biases],
        layout(grad, poison),
        CHAIN.activations,
    )
    assert_same_bits(poisoned, clean)


@sizes
@every_dtype
@pytest.mark.parametrize("value", [NAN, INF], ids=["nan", "inf"])
def test_a_spoiled_row_of_the_input_spoils_its_own_output_alone(value: float, dtype: torch.dtype, shape: Shape) -> None:
    args = arguments(shape, dtype)
    rows, ours = shape.leading[0], operators("tanh")[0]
    clean = first_order(ours, args)
    for row in {0, rows // 2, rows - 1}:
        spoiled = args.input.clone()
        spoiled[row] = value
        results = first_order(ours, args._replace(input=spoiled))
        others = torch.arange(rows) != row
        assert results["output"][row].isnan().any() or value == INF
        # Inf is no sum of planes: where those multiply (on tiles), the whole product goes another way.
        allowed = 4 * torch.finfo(dtype).eps if value == INF and IN_PLANES and dtype == torch.float16 else 0
        for name in ("output", "gradient of input"):
            off = (results[name][others] - clean[name][others]).double().norm()
            assert off <= allowed * clean[name].double().norm(), name


@sizes
@every_dtype
def test_a_spoiled_row_of_the_gradient_spoils_its_own_row_alone(dtype: torch.dtype, shape: Shape) -> None:
    args = arguments(shape, dtype)
    rows, ours = shape.leading[0], operators("tanh")[0]
    clean = first_order(ours, args)["gradient of input"]
    for row in {0, rows // 2, rows - 1}:
        grad = args.grad.clone()
        grad[row] = NAN
        result = first_order(ours, args._replace(grad=grad))["gradient of input"]
        others = torch.arange(rows) != row
        assert result[row].isnan().all()
        assert torch.equal(result[others], clean[others])


@every_dtype
@pytest.mark.parametrize("rows", [3, 18, 70, 530])
def test_a_spoiled_row_stays_in_its_row_of_a_chain(rows: int, dtype: torch.dtype) -> None:
    x, weights, biases, grad = chain_tensors(rows, dtype)
    clean = chain_results(x, weights, biases, grad, CHAIN.activations)
    for row in {0, rows // 2, rows - 1}:
        spoiled = x.clone()
        spoiled[row] = NAN
        results = chain_results(spoiled, weights, biases, grad, CHAIN.activations)
        others = torch.arange(rows) != row
        assert results["output"][row].isnan().all()
        for name in ("output", "gradient 0"):
            assert torch.equal(results[name][others], clean[name][others]), name
