"""First and second derivatives are right for every argument and every subset of them; the third is, or raises."""

from __future__ import annotations

from itertools import compress

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from helpers.cases import ACTIVATION_NAMES, CURVED, LAYOUTS, SHAPES, SUBSETS, WAYS, Arguments, Layouts, Shape, arguments
from helpers.tolerance import (
    assert_all_as_close_as_stock,
    assert_equivalent,
    first_order,
    gradient_penalty,
    leaves,
    operators,
)

SMALL = Shape((3,), 4, 5)
every_activation = pytest.mark.parametrize("activation", ACTIVATION_NAMES)
every_way = pytest.mark.parametrize("activation", WAYS)
every_subset = pytest.mark.parametrize(
    "wanted", SUBSETS, ids=["+".join(compress(("input", "weight", "bias"), subset)) or "none" for subset in SUBSETS]
)


@every_activation
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("leading", [(3,), (), (2, 1, 2), (0,)], ids=["matrix", "1-D", "4-D", "no rows"])
def test_gradcheck(leading: tuple[int, ...], bias: bool, activation: str, device: torch.device) -> None:
    tensors = leaves(arguments(Shape(leading, 4, 5), torch.float64, device, bias=bias))
    ours, _ = operators(activation, slope=0.3)
    assert gradcheck(ours, tensors)
    assert gradgradcheck(ours, tensors)


@every_activation
def test_gradcheck_through_three_layers(activation: str, device: torch.device) -> None:
    """In a chain, the second derivative of one layer needs the first of the others."""
    ours, _ = operators(activation, slope=0.3)
    x, w, b, _ = arguments(Shape((2,), 3, 3), torch.float64, device)
    tensors = [t.requires_grad_() for t in (x, *(w + i / 4 for i in range(3)), *(b - i / 4 for i in range(3)))]

    def chain(x: Tensor, w0: Tensor, w1: Tensor, w2: Tensor, b0: Tensor, b1: Tensor, b2: Tensor) -> Tensor:
        return ours(ours(ours(x, w0, b0), w1, b1), w2, b2)

    assert gradcheck(chain, tensors)
    assert gradgradcheck(chain, tensors)


@every_subset
@every_way
def test_first_order_of_every_subset(activation: str, wanted: tuple[bool, bool, bool], device: torch.device) -> None:
    assert_equivalent(first_order, arguments(SHAPES["4-D, many rows"], device=device), activation, wanted=wanted)


@every_subset
@every_way
def test_second_order_of_every_subset(activation: str, wanted: tuple[bool, bool, bool], device: torch.device) -> None:
    if not any(wanted):
        pytest.skip("nothing to differentiate")
    assert_equivalent(gradient_penalty, arguments(SHAPES["4-D, many rows"], device=device), activation, wanted=wanted)


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in SHAPES if name not in ("deep", "wide", "tall", "shared by threads")])
def test_second_order_of_every_shape(name: str, dtype: torch.dtype, activation: str, device: torch.device) -> None:
    assert_equivalent(gradient_penalty, arguments(SHAPES[name], dtype, device), activation)


@pytest.mark.parametrize("activation", ["leaky_relu", "tanh"])
@pytest.mark.parametrize("layouts", LAYOUTS.values(), ids=LAYOUTS)
def test_second_order_of_every_layout(layouts: Layouts, activation: str, device: torch.device) -> None:
    args = arguments(Shape((2, 3), 7, 9), device=device, layouts=layouts)
    assert_equivalent(gradient_penalty, args, activation, slope=0.2)


@pytest.mark.parametrize("activation", CURVED)
def test_third_order(activation: str, device: torch.device) -> None:
    """Through the second order's graph: right, never silently wrong."""
    args = arguments(SMALL, torch.float64, device)

    def third_order(operator, args: Arguments) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
        x, w, b = leaves(args)
        value = operator(x, w, b)
        for _ in range(3):
            (value,) = torch.autograd.grad((value * value).sum(), x, create_graph=True)
        return {"third order of input": value.detach()}

    ours, stock = (third_order(operator, args) for operator in operators(activation))
    assert torch.allclose(ours["third order of input"], stock["third order of input"], rtol=1e-12)


@every_activation
def test_gradients_of_the_gradients_incoming_side(activation: str, device: torch.device) -> None:
    """d(dx)/d(dy): the second order with respect to what came from above."""
    results = []
    args = arguments(SMALL, torch.float64, device)
    for operator in operators(activation):
        x, w, b = leaves(args)
        dy = args.grad.clone().requires_grad_()
        dx, dw, db = torch.autograd.grad(operator(x, w, b), (x, w, b), dy, create_graph=True)
        results.append(torch.autograd.grad(dx.sum() + dw.square().sum() + db.prod(), dy)[0])
    assert torch.allclose(*results, rtol=1e-12)


def test_gelu_tanh_of_large_float16_numbers(device: torch.device) -> None:
    """Their squares are no float16 numbers; the gradient that is differentiated again is the plain one all the same."""
    z = torch.tensor([[257.0], [-300.0], [1.5]], dtype=torch.float16, device=device).requires_grad_()
    one = torch.ones(1, 1, dtype=torch.float16, device=device)
    y = operators("gelu_tanh")[0](z, one, None)
    plain, differentiable = (
        torch.autograd.grad(y.sum(), z, retain_graph=True, create_graph=create)[0] for create in (False, True)
    )
    torch.testing.assert_close(plain[:2].flatten().tolist(), [1.0, 0.0])
    torch.testing.assert_close(differentiable.detach(), plain)


def test_backward_twice_through_a_retained_graph(device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    x, w, b = leaves(args)
    y = operators("tanh")[0](x, w, b)
    y.backward(args.grad, retain_graph=True)
    once = [t.grad.clone() for t in (x, w, b)]
    y.backward(args.grad)
    assert all(torch.equal(t.grad, 2 * g) for t, g in zip((x, w, b), once, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        y.backward(args.grad)


def test_one_tensor_in_two_places(device: torch.device) -> None:
    """The same weight in two layers and the same tensor as input and weight: gradients add up."""
    square = arguments(Shape((4,), 4, 4), device=device).weight

    def shared(operator, args: Tensor) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
        w = args.detach().clone().requires_grad_()
        operator(operator(w, w, None), w, w[0]).sum().backward()
        return {"gradient": w.grad}

    ours, stock = operators("tanh")
    assert_all_as_close_as_stock(shared(ours, square), shared(stock, square), shared(stock, square.double()))


def test_only_what_autograd_asks_for(device: torch.device) -> None:
    """grad(inputs=...) leaves other leaves alone, and a result nobody needs is not computed."""
    x, w, b = leaves(arguments(SMALL, device=device))
    (dw,) = torch.autograd.grad(operators("relu")[0](x, w, b).sum(), w)
    assert dw.shape == w.shape
    assert x.grad is None
    assert b.grad is None
