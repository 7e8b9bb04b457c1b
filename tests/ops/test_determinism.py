"""The same arguments give the same bits in every run, and with every number of threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from helpers.cases import DTYPES, SHAPES, WAYS, Shape, arguments
from helpers.tolerance import Results, assert_equivalent, first_order, operators

THREADS = [1, 2, 3, 5]
BIG = ["shared by threads", "shared by threads, few rows", "tall", "wide", "deep", "one output"]


def same_bits(one: Results, other: Results) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("activation", WAYS)
def test_bias_gradient_is_reproducible(activation: str, dtype: torch.dtype, device: torch.device) -> None:
    args = arguments(Shape((3000,), 8, 70), dtype, device)
    gradients = [first_order(operators(activation)[0], args)["gradient of bias"] for _ in range(5)]
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("name", BIG)
def test_any_number_of_threads_gives_the_same_bits(
    name: str, dtype: torch.dtype, use_threads: Callable[[int], None]
) -> None:
    args = arguments(SHAPES[name], dtype)
    results = []
    for count in THREADS:
        use_threads(count)
        results.append(first_order(operators("tanh")[0], args))
    assert all(same_bits(result, results[0]) for result in results)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("count", THREADS)
@pytest.mark.parametrize("name", BIG)
def test_any_number_of_threads_is_right(
    name: str, count: int, dtype: torch.dtype, use_threads: Callable[[int], None]
) -> None:
    use_threads(count)
    assert_equivalent(first_order, arguments(SHAPES[name], dtype), "sigmoid")


def test_a_batch_of_one_of_its_rows_changes_no_other_row(device: torch.device) -> None:
    """NaN in one sample stays in that sample: nothing is read from beyond a tile's edge."""
    args = arguments(Shape((70,), 37, 45), device=device)
    y = operators("relu")[0](*args[:3])
    args.input[33] = float("nan")
    spoiled = operators("relu")[0](*args[:3])
    assert spoiled[33].isnan().all()
    others = torch.arange(70) != 33
    assert torch.equal(spoiled[others], y[others])


@pytest.mark.parametrize("activation", WAYS)
def test_deterministic_algorithms(activation: str, device: torch.device) -> None:
    args = arguments(SHAPES["shared by threads"], device=device)
    plain = first_order(operators(activation)[0], args)
    torch.use_deterministic_algorithms(True)
    try:
        results = [first_order(operators(activation)[0], args) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert same_bits(*results)
    assert same_bits(results[0], plain) or device.type == "cuda"
