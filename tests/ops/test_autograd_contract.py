"""The operator is a good citizen of autograd: what it keeps, what it refuses, hooks, modes, in-place changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from helpers.cases import SHAPES, WAYS, Shape, arguments
from helpers.tolerance import assert_equivalent, first_order, leaves, operators

SMALL = Shape((3,), 4, 5)
every_activation = pytest.mark.parametrize("activation", WAYS)


READS_OUTPUT = ["relu", "leaky_relu", "tanh"]


@pytest.mark.parametrize("activation", READS_OUTPUT)
def test_output_changed_in_place_is_refused(activation: str, device: torch.device) -> None:
    """The gradient is read from the output: a changed one must raise, not give another gradient."""
    y = operators(activation)[0](*leaves(arguments(SMALL, device=device)))
    with torch.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("position", [0, 1], ids=["input", "weight"])
def test_argument_changed_in_place_is_refused(position: int, device: torch.device) -> None:
    tensors = leaves(arguments(SMALL, device=device))
    y = operators("relu")[0](*tensors)
    with torch.no_grad():
        tensors[position].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@every_activation
@pytest.mark.parametrize("changed", [0, 1], ids=["input", "weight"])
def test_argument_that_no_gradient_needs_may_change(changed: int, activation: str, device: torch.device) -> None:
    """As in stock: dW reads no weight and dx no input, so an optimizer may step between forward and backward."""
    args = arguments(SMALL, device=device)
    wanted = (changed == 0, changed == 1, True)
    results = []
    for operator in operators(activation):
        tensors = [t.clone().requires_grad_(asked) for t, asked in zip(args[:3], wanted, strict=True)]
        y = operator(*tensors)
        with torch.no_grad():
            tensors[changed].mul_(3)
        y.backward(args.grad)
        results.append(tensors[changed].grad)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("activation", [name for name in WAYS if name not in READS_OUTPUT])
def test_output_that_no_gradient_reads_may_change_in_place(activation: str, device: torch.device) -> None:
    args, gradients = arguments(SMALL, device=device), []
    for operator in operators(activation):
        tensors = leaves(args)
        operator(*tensors).mul_(2).sum().backward()
        gradients.append([tensor.grad for tensor in tensors])
    torch.testing.assert_close(*gradients)


@every_activation
def test_what_forward_keeps(activation: str, device: torch.device) -> None:
    """Input and weight, and what the activation's gradient reads: nothing, the output or the pre-activation."""
    kept: list[Tensor] = []
    tensors = leaves(arguments(SMALL, device=device))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = operators(activation)[0](*tensors)
    memory = {t.data_ptr() for t in kept}
    expected = {tensors[0].data_ptr(), tensors[1].data_ptr()} | (
        {y.data_ptr()} if activation in READS_OUTPUT else set()
    )
    others = [t for t in kept if t.data_ptr() not in expected]
    assert memory >= expected
    if activation in READS_OUTPUT or activation == "identity":
        assert not others
    else:
        (z,) = others
        torch.testing.assert_close(z, operators("identity")[1](*tensors))


@pytest.mark.parametrize("position", [0, 1], ids=["only x", "only w"])
def test_a_frozen_argument_is_not_kept_for_nothing(position: int, device: torch.device) -> None:
    """dx needs the weight alone and dW the input alone."""
    kept: list[Tensor] = []
    wanted = (position == 0, position == 1, False)
    tensors = leaves(arguments(SMALL, device=device), wanted)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        operators("identity")[0](*tensors)
    assert {t.data_ptr() for t in kept} == {tensors[1 - position].data_ptr()}


@every_activation
def test_saved_tensors_on_another_place(activation: str, device: torch.device) -> None:
    """Offloading, as save_on_cpu does: what comes back is another tensor with the same values."""
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
        assert_equivalent(first_order, arguments(SMALL, device=device), activation)


@every_activation
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_checkpoint(reentrant: bool, activation: str, device: torch.device) -> None:
    args = arguments(SHAPES["odd"], device=device)
    ours, _ = operators(activation)
    plain = first_order(ours, args)
    again = first_order(lambda *tensors: checkpoint(ours, *tensors, use_reentrant=reentrant), args)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_without_gradients(mode: type, device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    ours, _ = operators("tanh")
    with_graph = ours(*leaves(args))
    with mode():
        y = ours(*leaves(args))
        assert not y.requires_grad
        assert y.is_inference() == (mode is torch.inference_mode)
        assert torch.equal(y, with_graph.detach())
        assert not ours(y[:, :4], args.weight).requires_grad


def test_no_argument_wants_a_gradient(device: torch.device) -> None:
    assert operators("relu")[0](*arguments(SMALL, device=device)[:3]).grad_fn is None


def test_inference_tensor_as_input(device: torch.device) -> None:
    """An inference tensor cannot be kept for backward; where nothing is kept, it is welcome. Both as in stock."""
    args = arguments(SMALL, device=device)
    with torch.inference_mode():
        x = args.input.clone()
    for operator in operators("relu"):
        assert operator(x, args.weight, args.bias).shape == (3, 5)
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            operator(x, args.weight.detach().requires_grad_(), args.bias)


def test_hooks(device: torch.device) -> None:
    """Hooks on leaves, on the output and on the node see and may replace gradients."""
    args = arguments(SMALL, device=device)
    seen: list[str] = []

    def run(operator) -> list[Tensor]:  # type: ignore[no-untyped-def]
        x, w, b = leaves(args)
        x.register_hook(lambda g: seen.append("leaf") or g * 3)
        w.register_post_accumulate_grad_hook(lambda t: seen.append("accumulated"))
        y = operator(x, w, b)
        y.register_hook(lambda g: seen.append("output") or g * 2)
        y.retain_grad()
        y.grad_fn.register_prehook(lambda grads: seen.append("node"))
        y.backward(args.grad)
        return [x.grad, w.grad, b.grad, y.grad]

    ours, stock = (run(operator) for operator in operators("sigmoid"))
    torch.testing.assert_close(ours, stock)
    assert sorted(seen[:4]) == sorted(seen[4:]) == ["accumulated", "leaf", "node", "output"]


def test_anomaly_mode_names_the_operator(device: torch.device) -> None:
    x, w, b = leaves(arguments(SMALL, device=device))
    dy = torch.full_like(operators("tanh")[0](x, w, b), float("inf"))
    with torch.autograd.detect_anomaly(check_nan=True), pytest.raises(RuntimeError, match=r"LinearAct.*nan"):
        operators("tanh")[0](x * 1e6, w, b).backward(dy)  # 0 · ∞


def test_many_gradients_at_once(device: torch.device) -> None:
    """is_grads_batched and vectorised Jacobians run the backward under vmap."""
    args = arguments(SMALL, torch.float64, device)
    dy = torch.randn(6, *args.grad.shape, dtype=torch.float64, device=device)
    for activation in WAYS:
        ours, stock = (
            torch.autograd.grad(operator(*tensors), tensors, dy, is_grads_batched=True)
            for operator in operators(activation)
            for tensors in [leaves(args)]
        )
        torch.testing.assert_close(ours, stock)
