"""The tolerance rule, in one place: ours is right when it is about as close to the truth as stock PyTorch is.

    ‖ours − truth‖ ≤ 2 ‖stock − truth‖ + 4 eps ‖truth‖

eps is the dtype's, or tf32's where that is allowed. The truth is computed in float64, and for float64 in numpy's
longdouble.

Stock may be wrong: oneDNN's bfloat16 product on AMX tiles reads past the end of rows whose length is no multiple of 32
and multiplies what lies there by zero, so that NaN and Inf get from one row into another (oneDNN issues 5717, 5603).
Where stock has NaN or Inf and the truth, rounded to its dtype, has none, ours is held to the truth alone: see
`standard`. For a few activations stock is no standard by itself: see `operators`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fused_gan
from fused_gan.ops import reference
from fused_gan.ops.activations import ACTIVATIONS, values_of
from helpers.cases import Arguments

Operator = Callable[..., Tensor]  # (input, weight, bias) -> output
Results = Mapping[str, "Tensor | None"]
Truth = Mapping[str, "np.ndarray | None"]

needs_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="longdouble is no wider than float64 here"
)


def wide(tensor: Tensor | np.ndarray) -> np.ndarray:
    """The same values in longdouble."""
    if isinstance(tensor, np.ndarray):
        return tensor.astype(np.longdouble)
    return tensor.detach().to("cpu", torch.float64).numpy().astype(np.longdouble)


def norm(values: np.ndarray) -> np.longdouble:
    return np.sqrt(np.sum(np.square(values)))


def unit(result: Tensor) -> float:
    """eps of what may have multiplied: where tf32 is allowed, each kernel chooses, ours and stock's."""
    tf32 = result.is_cuda and result.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return 2.0**-10 if tf32 else torch.finfo(result.dtype).eps


class StockIsWrong(UserWarning):
    """Stock PyTorch has NaN or Inf where the truth has none, or NaN where the truth is infinite."""


def standard(stock: Results, truth: Results | Truth) -> Results:
    """What ours is compared with: stock's results; where one of them is wrong, all of the truth, rounded to their
    dtypes, as what is NaN in one may have become a wrong number in the next."""
    rounded = {
        name: None if result is None else torch.from_numpy(wide(truth[name]).astype(np.float64)).to(result)
        for name, result in stock.items()
    }
    wrong = [
        name
        for name, result in stock.items()
        if result is not None
        and ((~result.isfinite() & rounded[name].isfinite()) | (result.isnan() & ~rounded[name].isnan())).any()
    ]
    if not wrong:
        return stock
    warnings.warn(f"stock is wrong in: {', '.join(wrong)}; ours is held to the truth alone", StockIsWrong, stacklevel=2)
    return rounded


def assert_as_close_as_stock(
    ours: Tensor, stock: Tensor, truth: Tensor | np.ndarray, what: str, luck: float = 1
) -> None:
    """Apply the rule to one tensor; shape, dtype and device must be stock's too.

    `luck` widens the rule for a search over many cases, which meets those where stock's roundings happen to cancel.
    """
    assert ours.shape == stock.shape, f"{what}: shape {tuple(ours.shape)}, stock has {tuple(stock.shape)}"
    assert ours.dtype == stock.dtype, f"{what}: dtype {ours.dtype}, stock has {stock.dtype}"
    assert ours.device == stock.device, f"{what}: device {ours.device}, stock has {stock.device}"
    exact, stock = wide(truth), standard({what: stock}, {what: truth})[what]
    assert np.isfinite(exact).all(), f"{what}: the truth is not finite; tests of special values do not belong here"
    our_error, stock_error, size = norm(wide(ours) - exact), norm(wide(stock) - exact), norm(exact)
    allowed = luck * (2 * stock_error + 4 * unit(ours) * size)
    # Written so that NaN fails.
    assert our_error <= allowed, f"{what}: error {our_error:.3g}, allowed {allowed:.3g} (stock {stock_error:.3g})"


def assert_all_as_close_as_stock(ours: Results, stock: Results, truth: Results | Truth, luck: float = 1) -> None:
    """Apply the rule to each named result; None where one is None."""
    assert ours.keys() == stock.keys() == truth.keys()
    stock = standard(stock, truth)
    for name, result in ours.items():
        assert (result is None) == (stock[name] is None), f"{name}: ours is {result}, stock's {stock[name]}"
        if result is not None:
            assert_as_close_as_stock(result, stock[name], truth[name], name, luck)


# ---- what is compared ---------------------------------------------------------------------------------------------


# Activations by their formulas, where PyTorch's own operators are no standard (2.13, CPU), with their parameters.
# The gradient of celu in float64 takes 1 / alpha, that of hardsigmoid 1 / 6, as a number of float32, and hardsigmoid
# has no second derivative.
_FORMULAS_IN_TORCH: dict[str, Callable[..., Tensor]] = {
    "celu": lambda z, alpha: torch.where(z > 0, z, alpha * torch.expm1(torch.where(z > 0, 0, z) / alpha)),
    "hardsigmoid": lambda z: torch.clamp(z + 3, 0, 6) / 6,
}


def operators(activation: str, slope: float = 0.01, **parameters: float) -> tuple[Operator, Operator]:
    """Ours and stock's, as functions of (input, weight, bias)."""
    options = {"activation": activation, "negative_slope": slope, **parameters}
    ours = partial(fused_gan.linear_act, **options)
    formula = _FORMULAS_IN_TORCH.get(activation)
    if formula is None:
        return ours, partial(reference.linear_act, **options)
    assert not {"gain", "clamp", "weight_gain"} & parameters.keys(), "a formula alone is no standard for these"
    values = values_of(activation, slope, parameters)
    return ours, lambda input, weight, bias=None: formula(F.linear(input, weight, bias), *values)


def activated(operator: Operator, z: Tensor) -> Tensor:
    """act(z) alone: a product with nothing to sum, and z as bias; in all rows of a batch, (80, z.numel())."""
    empty = torch.empty(80, 0, dtype=z.dtype, device=z.device)
    return operator(empty, empty.new_empty(z.numel(), 0), z)


def leaves(args: Arguments, wanted: tuple[bool, bool, bool] = (True, True, True)) -> list[Tensor | None]:
    """input, weight and bias, in their memory, as leaves that require a gradient where wanted."""
    return [
        tensor if tensor is None else tensor.detach().requires_grad_(asked)
        for tensor, asked in zip(args[:3], wanted, strict=True)
    ]


def named(prefix: str, values: list[Tensor | None]) -> dict[str, Tensor | None]:
    return {f"{prefix} of {name}": value for name, value in zip(("input", "weight", "bias"), values, strict=True)}


def first_order(operator: Operator, args: Arguments, wanted: tuple[bool, bool, bool] = (True, True, True)) -> Results:
    """The output and the first derivatives."""
    tensors = leaves(args, wanted)
    output = operator(*tensors)
    if any(tensor is not None and tensor.requires_grad for tensor in tensors):
        output.backward(args.grad)
    return {"output": output, **named("gradient", [None if t is None else t.grad for t in tensors])}


def gradient_penalty(
    operator: Operator, args: Arguments, wanted: tuple[bool, bool, bool] = (True, True, True)
) -> Results:
    """The gradient of ½‖first derivatives‖²: the second order, through every first derivative asked for."""
    tensors = leaves(args, wanted)
    asked = [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]
    first = torch.autograd.grad(operator(*tensors), asked, args.grad, create_graph=True)
    penalty = torch.stack([gradient.square().sum() for gradient in first]).sum() / 2
    second = torch.autograd.grad(penalty, asked, allow_unused=True) if penalty.requires_grad else [None] * len(asked)
    at = iter(second)
    return named("second-order gradient", [next(at) if any(t is a for a in asked) else None for t in tensors])


def assert_equivalent(
    program: Callable[..., Results],
    args: Arguments,
    activation: str,
    slope: float = 0.01,
    luck: float = 1,
    parameters: Mapping[str, float] | None = None,
    **options: object,
) -> None:
    """Run a program of the above with our operator, with stock's, and with stock's in the wider type."""
    given = {"negative_slope": slope, **(parameters or {})}
    ours, stock = operators(activation, given.pop("negative_slope"), **given)
    if args.input.dtype == torch.float64 and program is first_order and not options:
        truth: Results | Truth = wide_first_order(args, activation, {"negative_slope": slope, **(parameters or {})})
    else:
        truth = program(stock, args.to(torch.float64), **options)
    assert_all_as_close_as_stock(program(ours, args, **options), program(stock, args, **options), truth, luck)


# ---- the truth for float64 ------------------------------------------------------------------------------------------


def wide_activation(
    activation: str, z: np.ndarray, parameters: Mapping[str, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """y = act(z) and act'(z) in longdouble; parameters that are not given have torch's defaults."""
    values = ACTIVATIONS[activation].parameters | {
        name: value for name, value in (parameters or {}).items() if name in ACTIVATIONS[activation].parameters
    }
    first, second = [*(np.longdouble(value) for value in values.values()), *[np.longdouble(0)] * 2][:2]
    gain, clamp = (np.longdouble((parameters or {}).get(name, idle)) for name, idle in (("gain", 1), ("clamp", np.inf)))
    with np.errstate(all="ignore"):  # of the branch not taken, at NaN and Inf
        y, derivative = _FORMULAS[activation](np.asarray(z, np.longdouble), first, second)
        scaled = y * gain
        return np.clip(scaled, -clamp, clamp), np.where(np.abs(scaled) <= clamp, derivative * gain, 0)


Formula = Callable[[np.ndarray, np.longdouble, np.longdouble], tuple[np.ndarray, np.ndarray]]


def _piecewise(where: np.ndarray, y: object, derivative: object, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is given where it holds, elsewhere z and 1."""
    return np.where(where, y, z), np.where(where, derivative, np.ones_like(z))


def _clamped(z: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    return np.clip(z, low, high), np.where((z > low) & (z < high), np.ones_like(z), 0)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _sigmoid_forms(z: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
    return _sigmoid(z), _sigmoid(z) * _sigmoid(-z)


def _elu(
    z: np.ndarray, alpha: np.longdouble, inner: np.longdouble, scale: np.longdouble
) -> tuple[np.ndarray, np.ndarray]:
    """scale · (z, or alpha (e^(z / inner) - 1))."""
    left = np.minimum(z, 0) / inner
    y, derivative = _piecewise(z <= 0, alpha * np.expm1(left), alpha / inner * np.exp(left), z)
    return scale * y, scale * derivative


def _softplus(z: np.ndarray, beta: np.longdouble, threshold: np.longdouble) -> tuple[np.ndarray, np.ndarray]:
    x = z * beta
    return _piecewise(x <= threshold, np.logaddexp(0, x) / beta, _sigmoid(x), z)


_PI = np.longdouble("3.1415926535897932384626433832795")


def _erfc(t: np.ndarray) -> np.ndarray:
    """The complementary error function in longdouble, for t ≥ 0 with full relative precision.

    Abramowitz and Stegun: below 2 by series 7.1.6, whose terms are all positive, above by continued fraction 7.1.14.
    """
    near, far = np.minimum(t, 2), np.maximum(t, 2)
    term = total = near
    for n in range(1, 80):
        term = term * near * near * 2 / (2 * n + 1)
        total = total + term
    fraction = far
    for n in range(200, 0, -1):
        fraction = far + np.longdouble(n) / 2 / fraction
    root = np.sqrt(_PI)
    return np.where(t < 2, 1 - 2 / root * np.exp(-near * near) * total, np.exp(-far * far) / root / fraction)


def normal_distribution(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The standard normal distribution's cdf and density in longdouble."""
    tail = _erfc(np.abs(z) / np.sqrt(np.longdouble(2))) / 2
    return np.where(z > 0, 1 - tail, tail), np.exp(-np.square(z) / 2) / np.sqrt(2 * _PI)


def _gelu(z: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
    cdf, density = normal_distribution(z)
    return z * cdf, cdf + z * density


def _gelu_tanh(z: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
    scale, cube = np.longdouble("1.5957691216057307117597842397375"), np.longdouble("0.044715")
    u = scale * (z + cube * z**3)
    return z * _sigmoid(u), _sigmoid(u) + z * _sigmoid(u) * _sigmoid(-u) * scale * (1 + 3 * cube * z**2)


def _mish(z: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
    t = np.tanh(np.logaddexp(0, z))
    return z * t, t + z * (1 - t) * (1 + t) * _sigmoid(z)


_SELU_SCALE, _SELU_ALPHA = (
    np.longdouble("1.0507009873554804934193349852946"),
    np.longdouble("1.6732632423543772848170429916717"),
)
_FORMULAS: dict[str, Formula] = {
    "identity": lambda z, *_: (z, np.ones_like(z)),
    "relu": lambda z, *_: _piecewise(z <= 0, 0, 0, z),
    "leaky_relu": lambda z, slope, _: _piecewise(z <= 0, z * slope, slope, z),
    "tanh": lambda z, *_: (np.tanh(z), 1 / np.cosh(z) ** 2),
    "sigmoid": _sigmoid_forms,
    "relu6": lambda z, *_: _clamped(z, 0, 6),
    "hardtanh": _clamped,
    "hardsigmoid": lambda z, *_: (_clamped(z + 3, 0, 6)[0] / 6, _clamped(z, -3, 3)[1] / 6),
    "elu": lambda z, alpha, _: _elu(z, alpha, np.longdouble(1), np.longdouble(1)),
    "selu": lambda z, *_: _elu(z, _SELU_ALPHA, np.longdouble(1), _SELU_SCALE),
    "celu": lambda z, alpha, _: _elu(z, alpha, alpha, np.longdouble(1)),
    "softplus": _softplus,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda z, *_: (z * _sigmoid(z), _sigmoid(z) * (1 + z * _sigmoid(-z))),
    "mish": _mish,
}


def wide_first_order(args: Arguments, activation: str, parameters: Mapping[str, float]) -> Truth:
    """What `first_order` computes, by formula, in longdouble."""
    gain = np.longdouble(parameters.get("weight_gain", 1))
    x, w, dy = wide(args.input), wide(args.weight) * gain, wide(args.grad)
    bias = 0 if args.bias is None else wide(args.bias)
    y, derivative = wide_activation(activation, x @ w.T + bias, parameters)
    dz = dy * derivative
    rows = dz.reshape(int(np.prod(dz.shape[:-1])), dz.shape[-1])
    return {
        "output": y,
        "gradient of input": dz @ w,
        "gradient of weight": rows.T @ x.reshape(rows.shape[0], x.shape[-1]) * gain,
        "gradient of bias": None if args.bias is None else rows.sum(0),
    }
