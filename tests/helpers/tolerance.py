"""The tolerance rule, in one place: ours is right when it is about as close to the truth as stock PyTorch is.

    ‖ours − truth‖ ≤ 2 ‖stock − truth‖ + 4 eps ‖truth‖

eps is the dtype's, or tf32's where that is allowed. The truth is computed in float64, and for float64 in numpy's
longdouble.

Stock may be wrong: oneDNN's bfloat16 product on AMX tiles reads past the end of rows whose length is no multiple of 32
and multiplies what lies there by zero, so that NaN and Inf get from one row into another (oneDNN issues 5717, 5603).
Where stock has NaN or Inf and the truth, rounded to its dtype, has none, ours is held to the truth alone: see
`standard`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

import fused_gan
from fused_gan.ops import reference
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
    """Stock PyTorch has NaN or Inf where the truth has none."""


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
        if result is not None and (~result.isfinite() & rounded[name].isfinite()).any()
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


def operators(activation: str, slope: float = 0.01) -> tuple[Operator, Operator]:
    """Ours and stock's, as functions of (input, weight, bias)."""
    options = {"activation": activation, "negative_slope": slope}
    return partial(fused_gan.linear_act, **options), partial(reference.linear_act, **options)


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
    **options: object,
) -> None:
    """Run a program of the above with our operator, with stock's, and with stock's in the wider type."""
    ours, stock = operators(activation, slope)
    if args.input.dtype == torch.float64 and program is first_order and not options:
        truth: Results | Truth = wide_first_order(args, activation, slope)
    else:
        truth = program(stock, args.to(torch.float64), **options)
    assert_all_as_close_as_stock(program(ours, args, **options), program(stock, args, **options), truth, luck)


# ---- the truth for float64 ------------------------------------------------------------------------------------------


def wide_activation(activation: str, z: np.ndarray, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """y = act(z) and act'(z) in longdouble."""
    one = np.ones_like(z)
    if activation == "identity":
        return z, one
    if activation == "relu":
        return np.maximum(z, 0), np.where(z > 0, one, 0)
    if activation == "leaky_relu":
        return np.where(z > 0, z, z * np.longdouble(slope)), np.where(z > 0, one, np.longdouble(slope))
    if activation == "tanh":
        return np.tanh(z), 1 / np.cosh(z) ** 2
    if activation == "sigmoid":
        y = 1 / (1 + np.exp(-z))
        return y, y * (1 / (1 + np.exp(z)))
    raise NotImplementedError(f"a longdouble formula for {activation!r} belongs here")


def wide_first_order(args: Arguments, activation: str, slope: float) -> Truth:
    """What `first_order` computes, by formula, in longdouble."""
    x, w, dy = wide(args.input), wide(args.weight), wide(args.grad)
    bias = 0 if args.bias is None else wide(args.bias)
    y, derivative = wide_activation(activation, x @ w.T + bias, slope)
    dz = dy * derivative
    rows = dz.reshape(int(np.prod(dz.shape[:-1])), dz.shape[-1])
    return {
        "output": y,
        "gradient of input": dz @ w,
        "gradient of weight": rows.T @ x.reshape(rows.shape[0], x.shape[-1]),
        "gradient of bias": None if args.bias is None else rows.sum(0),
    }
