"""torch.func's transforms give stock's results: they take the composite path, C++ Functions being refused there."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from fused_gan import FusedLinear
from helpers.cases import ACTIVATION_NAMES, Arguments, Shape, arguments
from helpers.tolerance import Operator, operators

Transform = Callable[[Operator, Arguments], "Tensor | tuple[Tensor, ...]"]
TRANSFORMS: dict[str, Transform] = {
    "grad": lambda op, a: grad(lambda *t: (op(*t) * a.grad).sum(), argnums=(0, 1, 2))(*a[:3]),
    "grad of grad": lambda op, a: grad(
        lambda w: grad(lambda x: (op(x, w, a.bias) * a.grad).sum())(a.input).square().sum()
    )(a.weight),
    "vjp": lambda op, a: vjp(op, *a[:3])[1](a.grad),
    "jvp": lambda op, a: jvp(op, a[:3], a[:3]),
    "jacrev": lambda op, a: jacrev(lambda x: op(x, a.weight, a.bias))(a.input),
    "jacfwd": lambda op, a: jacfwd(lambda w: op(a.input, w, a.bias))(a.weight),
    "hessian": lambda op, a: hessian(lambda b: (op(a.input, a.weight, b) * a.grad).sum())(a.bias),
    "vmap over samples": lambda op, a: vmap(lambda x: op(x, a.weight, a.bias))(a.input),
    "vmap over all": lambda op, a: vmap(op, (0, None, 0))(a.input, a.weight, a.bias.expand(3, -1)),
    "vmap in another dimension": lambda op, a: vmap(lambda x: op(x, a.weight, a.bias), 1, 1)(a.input[:, None]),
    "gradient of each sample": lambda op, a: vmap(grad(lambda w, x, dy: (op(x, w, a.bias) * dy).sum()), (None, 0, 0))(
        a.weight, a.input, a.grad
    ),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transform(transform: Transform, activation: str, device: torch.device) -> None:
    args = arguments(Shape((3,), 4, 5), torch.float64, device)
    ours, stock = (transform(operator, args) for operator in operators(activation, 0.3))
    torch.testing.assert_close(ours, stock)


def test_autograd_outside_of_vmap(device: torch.device) -> None:
    args = arguments(Shape((3,), 4, 5), torch.float64, device)
    gradients = []
    for operator in operators("tanh"):
        weight = args.weight.detach().requires_grad_()
        vmap(lambda x, op=operator, w=weight: op(x, w, args.bias))(args.input).backward(args.grad)
        gradients.append(weight.grad)
    torch.testing.assert_close(*gradients)


def test_vmap_is_no_loop(device: torch.device) -> None:
    """A batching rule, or the composite path: not one call a sample."""
    args = arguments(Shape((3,), 4, 5), device=device)
    torch._C._functorch._set_vmap_fallback_warning_enabled(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch._C._functorch._set_vmap_fallback_enabled(False)
        try:
            vmap(lambda x: operators("relu")[0](x, args.weight, args.bias))(args.input)
        finally:
            torch._C._functorch._set_vmap_fallback_enabled(True)


def test_ensemble_of_layers(device: torch.device) -> None:
    """The recipe of torch.func's tutorial: stacked parameters, one call for all models."""
    layers = [FusedLinear(4, 5, activation="sigmoid", device=device) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(layers)
    x = torch.randn(6, 4, device=device)
    outputs = vmap(lambda p, b: functional_call(layers[0], (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(outputs, torch.stack([layer(x) for layer in layers]))
    outputs.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in parameters.values())


def test_under_autocast(device: torch.device) -> None:
    args = arguments(Shape((3,), 4, 5), device=device)
    results = []
    for operator in operators("tanh"):
        with torch.autocast(device.type, torch.bfloat16):
            results.append(grad(lambda w, op=operator: op(args.input, w, args.bias).float().sum())(args.weight))
    torch.testing.assert_close(*results, rtol=0.02, atol=0.02)


def test_errors_are_the_same(device: torch.device) -> None:
    args = arguments(Shape((3,), 4, 5), device=device)
    with pytest.raises(ValueError, match="activation: expected one of"):
        grad(lambda w: operators("swish")[0](args.input, w, None).sum())(args.weight)
