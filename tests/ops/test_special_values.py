"""NaN, infinities, zeros of both signs, denormals and huge values go through as in stock PyTorch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from fused_gan.ops import reference
from helpers.cases import ACTIVATION_NAMES, DTYPES, Arguments, Shape, arguments
from helpers.tolerance import (
    Operator,
    activated,
    first_order,
    gradient_penalty,
    operators,
    standard,
    wide,
    wide_activation,
)

NAN, INF = float("nan"), float("inf")
every_activation = pytest.mark.parametrize("activation", ACTIVATION_NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
# Through the tiles and through the kernel for few rows; no row is a multiple of a vector. All elements together are:
# behind whole vectors stock has other code, and there the gradient of elu, selu, celu, hardtanh and relu6 at NaN is
# another one. Ours is that of the whole vectors everywhere.
every_path = pytest.mark.parametrize("shape", [Shape((64,), 9, 21), Shape((8,), 9, 24)], ids=["many rows", "few rows"])


def ours_and_stock(activation: str) -> tuple[Operator, Operator]:
    """The operators, stock's by PyTorch's own kernel: which formula stands in its place knows nothing of NaN."""
    return operators(activation)[0], partial(reference.linear_act, activation=activation)


def assert_same(ours: Tensor, stock: Tensor, what: str, room: float = 4) -> None:
    """NaN where stock has NaN, infinities of the same sign in the same places, the rest about the same."""
    precision = room * torch.finfo(ours.dtype).eps ** 0.8  # sums of either sign: room for some lost digits
    if ours.dtype == torch.float64:
        precision = max(precision, 1e-7)  # stock's hardsigmoid multiplies by 1 / 6 rounded to float32
    torch.testing.assert_close(
        ours, stock, equal_nan=True, rtol=precision, atol=precision, msg=lambda text: f"{what}: {text}"
    )


def spoil(tensor: Tensor, value: float) -> None:
    """One element of a vector; of a matrix one row and one element of another."""
    tensor.view(-1)[1] = value
    tensor[-2] = value


@every_path
@every_dtype
@every_activation
@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", ["input", "weight", "bias", "grad"])
def test_one_special_value(
    place: str, value: float, activation: str, dtype: torch.dtype, shape: Shape, device: torch.device
) -> None:
    args = arguments(shape, dtype, device)
    if place == "grad":  # so that no output is rounded to 1, where the gradient would be 0 · Inf for one of the two
        args = args._replace(weight=args.weight / 4)
    spoil(getattr(args, place), value)
    ours, stock = (first_order(operator, args) for operator in ours_and_stock(activation))
    stock = standard(stock, first_order(ours_and_stock(activation)[1], args.to(torch.float64)))
    assert value == value or any(result.isnan().any() for result in stock.values())
    for name, result in ours.items():
        assert_same(result, stock[name], name)


@pytest.mark.parametrize("activation", [name for name in ACTIVATION_NAMES if name != "hardsigmoid"])  # stock has none
@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", ["input", "bias", "grad"])
def test_second_order(place: str, value: float, activation: str, device: torch.device) -> None:
    args = arguments(Shape((8,), 9, 24), device=device)
    spoil(getattr(args, place), value)
    ours, stock = (gradient_penalty(operator, args) for operator in ours_and_stock(activation))
    for name, result in ours.items():
        if result is not None:
            assert_same(result, stock[name], name, room=16)


def differentiated(operator, z: Tensor, dy: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """dy · act'(z) alone: the gradient of a bias in a batch of one."""
    empty = torch.empty(1, 0, dtype=z.dtype, device=z.device)
    bias = z.clone().requires_grad_()
    operator(empty, empty.new_empty(z.numel(), 0), bias).backward(dy[None])
    return bias.grad


def true_values(
    activation: str, z: Tensor, upper: Tensor | None = None, parameters: dict[str, float] | None = None
) -> Tensor:
    """y, or upper · act'(z), in longdouble, rounded to z's dtype."""
    y, derivative = wide_activation(activation, wide(z), parameters)
    values = y if upper is None else wide(upper) * derivative
    return torch.from_numpy(values.astype(np.float64)).to(z)


def assert_stock_or_exact(ours: Tensor, stock: Tensor, true: Tensor, rtol: float, atol: float) -> None:
    """Each element is as stock's, or as the truth or at least nearer to it: some of stock's lose all that is tiny, or
    are NaN for large and infinite numbers."""
    options = {"rtol": rtol, "atol": atol, "equal_nan": True}
    good = torch.isclose(ours, stock, **options) | torch.isclose(ours, true, **options)
    good |= (ours - true).abs() <= (stock - true).abs()
    assert good.all(), list(zip(ours[~good].tolist(), stock[~good].tolist(), true[~good].tolist(), strict=True))


def landmarks(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Where an activation may go wrong: the ends of the type, of exp, of denormals, and both zeros."""
    info = torch.finfo(dtype)
    sizes = [0, info.smallest_normal / 8, info.smallest_normal, info.eps, info.max, INF]
    sizes += [0.25, 0.79, 0.8, 0.81, 1, 5, 8.7, 9.1, 15, 22, 23, 44, 45]
    sizes += [86.9, 87.1, 88.4, 88.8, 89, 99, 101, 105, 354, 355, 707, 709, 710, 719, 721, 750]
    values = [*sizes, *(-size for size in sizes)]
    values += [NAN] * (128 - len(values))  # whole vectors, see every_path
    return torch.tensor(values, dtype=torch.float64).to(device, dtype)


@every_dtype
@every_activation
def test_landmarks(activation: str, dtype: torch.dtype, device: torch.device) -> None:
    """Relative precision here: what is tiny in stock may not be 0 in ours."""
    z = landmarks(dtype, device)
    ours, stock = (activated(operator, z) for operator in operators(activation))
    smallest = torch.finfo(dtype).smallest_normal
    true = true_values(activation, z).expand_as(ours)
    assert_stock_or_exact(ours, stock, true, 8 * torch.finfo(dtype).eps, 4 * smallest)
    nonzero = (stock != 0) & ~stock.isnan()
    assert torch.equal(ours.signbit()[nonzero], stock.signbit()[nonzero])


@every_dtype
@every_activation
@pytest.mark.parametrize("upper", [1.0, NAN, INF, -INF, 0.0], ids=["1", "nan", "inf", "-inf", "0"])
def test_landmarks_of_the_gradient(upper: float, activation: str, dtype: torch.dtype, device: torch.device) -> None:
    z = landmarks(dtype, device)
    dy = torch.full_like(z, upper)
    ours, stock = (differentiated(operator, z, dy) for operator in ours_and_stock(activation))
    precision = 4 * torch.finfo(dtype).eps ** 0.8
    assert_stock_or_exact(ours, stock, true_values(activation, z, dy), precision, precision)


@every_dtype
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("slope", [0.0, 0.01, 1.7])
def test_gradients_are_selections(slope: float, activation: str, dtype: torch.dtype, device: torch.device) -> None:
    """Exactly stock's: at z = 0, at NaN, and with a NaN coming from above where z ≤ 0."""
    z = landmarks(dtype, device).repeat(3)
    dy = torch.tensor([1.5, NAN, -INF], dtype=dtype, device=device).repeat_interleave(z.numel() // 3)
    ours, stock = (differentiated(operator, z, dy) for operator in operators(activation, slope))
    torch.testing.assert_close(ours, stock, equal_nan=True, rtol=torch.finfo(dtype).eps, atol=0)


@every_dtype
def test_relu_of_nan_is_nan(dtype: torch.dtype, device: torch.device) -> None:
    nan = torch.full((37,), NAN, dtype=dtype, device=device)
    for activation in ACTIVATION_NAMES:
        assert activated(operators(activation)[0], nan).isnan().all(), activation


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@every_activation
def test_every_16_bit_number(activation: str, dtype: torch.dtype, device: torch.device) -> None:
    """All 65,536 of them, through loads, activation and rounding: identity, relu to the bit, the others to one unit.
    Products in bfloat16 may take denormal numbers for zero, as the processor's instruction does, or keep them."""
    z = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).to(device)[:, None]
    one = torch.ones(1, 1, dtype=dtype, device=device)
    ours, stock = (operator(z, one, None).float().flatten() for operator in operators(activation, 0.2))
    if dtype == torch.bfloat16:
        exact = operators(activation, 0.2)[1](z.double(), one.double(), None).to(dtype).float().flatten()
        tiny = z.flatten().float().abs() < torch.finfo(dtype).smallest_normal
        stock = torch.where(tiny, torch.where(ours == 0, ours, exact), stock)
    if activation in ("identity", "relu"):
        torch.testing.assert_close(ours, stock, equal_nan=True, rtol=0, atol=0)
        return
    unit = 2 * torch.finfo(dtype).eps
    true = true_values(activation, z.flatten(), parameters={"negative_slope": 0.2}).float()
    assert_stock_or_exact(ours, stock, true, unit, torch.finfo(dtype).smallest_normal * unit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=lambda dtype: str(dtype)[6:])
@every_activation
def test_flushed_denormals(activation: str, dtype: torch.dtype) -> None:
    """set_flush_denormal speaks of float32 and float64; half's denormals reach up to 6e-5 and stay."""
    tiny = torch.full((5, 1), torch.finfo(dtype).smallest_normal / 8, dtype=dtype)
    one = torch.ones(1, 1, dtype=dtype)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        outputs = [operator(tiny, one) for operator in operators(activation)]
        gradients = [first_order(operator, Arguments(one, one, one[0], tiny[:1])) for operator in operators(activation)]
    finally:
        torch.set_flush_denormal(False)
    torch.testing.assert_close(*outputs, rtol=0.01, atol=0)
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], rtol=0.01, atol=0)
