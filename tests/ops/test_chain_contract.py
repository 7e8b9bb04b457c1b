"""A chain is as good a citizen of autograd as stock layers: it keeps what they keep, refuses what they refuse."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import fused_gan

WIDTHS = (4, 5, 6, 3)
ACTIVATIONS = {
    "curved": ("tanh", "sigmoid", "tanh"),
    "straight": ("relu", "identity", "relu"),
    "open": ("identity", "tanh", "identity"),
    "pre-activations": ("gelu", "softplus", "silu"),
    "both": ("mish", "relu", "elu"),
}
MODULES: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "identity": nn.Identity,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "elu": nn.ELU,
}
every_chain = pytest.mark.parametrize("names", ACTIVATIONS.values(), ids=ACTIVATIONS)
# Which of (input, weights, biases) want a gradient.
MASKS = [mask for mask in itertools.product([False, True], repeat=7) if any(mask)]


def stock_network(names: tuple[str, ...], device: torch.device | str = "cpu") -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs, name in zip(WIDTHS[:-1], WIDTHS[1:], names, strict=True):
        layers += [nn.Linear(inputs, outputs), MODULES[name]()]
    return nn.Sequential(*layers).to(device, torch.float64)


def chain_of(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """The same network, parameters included, as one operator."""
    names = [{module: name for name, module in MODULES.items()}[type(module)] for module in network[1::2]]
    linears = list(network[::2])
    return lambda x: fused_gan.mlp(x, [m.weight for m in linears], [m.bias for m in linears], names)


def parameters_of(network: nn.Sequential) -> list[Tensor]:
    return [m.weight for m in network[::2]] + [m.bias for m in network[::2]]


def freeze(network: nn.Sequential, mask: tuple[bool, ...]) -> None:
    for tensor, wanted in zip(parameters_of(network), mask, strict=True):
        tensor.requires_grad_(wanted)


def kept_by(run: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t) is None or t, lambda t: t):
        output = run(x)
    assert output.requires_grad
    return list(kept.values())


def sorted_values(tensors: list[Tensor]) -> list[list[float]]:
    """In an order of their own: stock keeps some weights transposed."""
    return sorted(sorted(tensor.detach().flatten().tolist()) for tensor in tensors)


@every_chain
def test_keeps_what_stock_keeps(names: tuple[str, ...]) -> None:
    """Tensor by tensor, whatever wants a gradient: no bias, no weight that no gradient passes, nothing below those."""
    network = stock_network(names)
    for mask in MASKS:
        freeze(network, mask[1:])
        x = torch.randn(7, 4, dtype=torch.float64, requires_grad=mask[0])
        ours, stock = (sorted_values(kept_by(run, x)) for run in (chain_of(network), network))
        assert len(ours) == len(stock), mask
        for one, other in zip(ours, stock, strict=True):
            assert one == pytest.approx(other), mask


def test_a_frozen_backbone_costs_nothing() -> None:
    network = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(64, 64), nn.ReLU())])
    network.requires_grad_(False)[-2].requires_grad_(True)
    x = torch.randn(32, 64)
    kept = [sum(t.numel() for t in kept_by(run, x)) for run in (fused_gan.fuse(network), network)]
    assert kept[0] == kept[1] == 2 * 32 * 64


@pytest.mark.parametrize("leading", [(3,), (), (0,), (2, 3)], ids=str)
@every_chain
def test_gradients_for_every_mask(names: tuple[str, ...], leading: tuple[int, ...], device: torch.device) -> None:
    """First order, by the operator that wants the shape of what was not kept."""
    network = stock_network(names, device)
    for mask in MASKS:
        freeze(network, mask[1:])
        x = torch.randn(*leading, 4, dtype=torch.float64, device=device, requires_grad=mask[0])
        wanted = [t for t in (x, *parameters_of(network)) if t.requires_grad]
        dy = torch.randn(*leading, 3, dtype=torch.float64, device=device)
        ours, stock = (torch.autograd.grad(run(x), wanted, dy) for run in (chain_of(network), network))
        torch.testing.assert_close(ours, stock)


@every_chain
def test_second_derivatives_for_every_mask(names: tuple[str, ...]) -> None:
    """Of every first derivative by everything, and by the incoming gradient. Then the third order."""
    network = stock_network(names)
    for mask in MASKS:
        freeze(network, mask[1:])
        x = torch.randn(3, 4, dtype=torch.float64, requires_grad=mask[0])
        dy = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
        wanted = [t for t in (x, *parameters_of(network)) if t.requires_grad]
        results = []
        for run in (chain_of(network), network):
            first = torch.autograd.grad(run(x), wanted, dy, create_graph=True)
            curved = sum((g * g.detach().cos()).sum() + g.square().sum() for g in first)
            second = torch.autograd.grad(curved, [*wanted, dy], create_graph=True, allow_unused=True)
            again = sum(g.square().sum() for g in second if g is not None)
            third = torch.autograd.grad(again, [*wanted, dy], allow_unused=True)
            results.append([torch.zeros(()) if g is None else g.detach() for g in (*first, *second, *third)])
        for ours, stock in zip(*results, strict=True):
            torch.testing.assert_close(ours.expand_as(stock), stock.expand_as(ours))


@pytest.mark.parametrize("mask", [(True,) * 7, (False,) + (True,) * 6, (False, False, True, True, False, True, False)])
@every_chain
def test_gradgradcheck(names: tuple[str, ...], mask: tuple[bool, ...]) -> None:
    network = stock_network(names)
    if "relu" in names:
        torch.manual_seed(5)
    tensors = [torch.randn(3, 4, dtype=torch.float64), *(p.detach().clone() for p in parameters_of(network))]
    tensors = [t.requires_grad_(wanted) for t, wanted in zip(tensors, mask, strict=True)]

    def run(x: Tensor, *rest: Tensor) -> Tensor:
        return fused_gan.mlp(x, rest[:3], rest[3:], names)

    assert torch.autograd.gradcheck(run, tensors)
    assert torch.autograd.gradgradcheck(run, tensors)


CHANGED = {"bias": lambda n: n[0].bias, "last bias": lambda n: n[4].bias, "first weight": lambda n: n[0].weight}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED)
def test_what_no_gradient_reads_may_change(changed: Callable[[nn.Sequential], Tensor]) -> None:
    network = stock_network(ACTIVATIONS["curved"])
    x = torch.randn(3, 4, dtype=torch.float64)
    results = []
    for run in (chain_of(network), network):
        output = run(x)
        with torch.no_grad():
            changed(network).mul_(1)
        results.append(torch.autograd.grad(output.sum(), parameters_of(network)))
    torch.testing.assert_close(*results)


def test_what_a_gradient_reads_may_not_change() -> None:
    network = stock_network(ACTIVATIONS["curved"])
    for changed in (network[2].weight, "input", "output"):
        for run in (chain_of(network), network):
            x = torch.randn(3, 4, dtype=torch.float64)
            output = run(x)
            with torch.no_grad():
                {"input": x, "output": output}.get(changed, changed).mul_(1)  # type: ignore[call-overload]
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                output.sum().backward()


def test_input_of_a_frozen_first_layer() -> None:
    """It may be an inference tensor, and may be overwritten."""
    network = stock_network(ACTIVATIONS["curved"])
    network[0].requires_grad_(False)
    with torch.inference_mode():
        inference = torch.randn(3, 4, dtype=torch.float64)
    for run in (chain_of(network), network):
        run(inference).sum().backward()
        x = torch.randn(3, 4, dtype=torch.float64)
        output = run(x)
        x.zero_()
        output.sum().backward()


def test_many_gradients_at_once(device: torch.device) -> None:
    """is_grads_batched, and Jacobians and Hessians with vectorize=True: a rule, not one call a gradient."""
    network = stock_network(ACTIVATIONS["curved"], device)
    chain, x = chain_of(network), torch.randn(3, 4, dtype=torch.float64, device=device, requires_grad=True)
    dy = torch.randn(6, 3, 3, dtype=torch.float64, device=device)
    wanted = [x, *parameters_of(network)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for create_graph in (False, True):
            ours, stock = (
                torch.autograd.grad(run(x), wanted, dy, is_grads_batched=True, create_graph=create_graph)
                for run in (chain, network)
            )
            torch.testing.assert_close(ours, stock)
    functions = torch.autograd.functional
    torch.testing.assert_close(functions.jacobian(chain, x, vectorize=True), functions.jacobian(network, x))
    hessians = [functions.hessian(lambda x, f=f: f(x).sum(), x, vectorize=f is chain) for f in (chain, network)]
    torch.testing.assert_close(*hessians)


@pytest.mark.parametrize("depth", [1, 3])
def test_forward_mode_over_backward(depth: int, device: torch.device) -> None:
    """A tangent of the incoming gradient reaches every gradient (Hessian-vector products)."""
    network = stock_network(ACTIVATIONS["curved"], device)[: 2 * depth]
    first = network[0]

    def layer(x: Tensor) -> Tensor:
        return fused_gan.linear_act(x, first.weight, first.bias, "tanh")

    ours_run = layer if depth == 1 else chain_of(network)
    x = torch.randn(3, 4, dtype=torch.float64, device=device, requires_grad=True)
    y = network(x)
    dy, tangent = torch.randn_like(y), torch.randn_like(y)
    results = []
    for run in (ours_run, network):
        output = run(x)
        with forward_ad.dual_level():
            gradients = torch.autograd.grad(output, (x, first.weight, first.bias), forward_ad.make_dual(dy, tangent))
            results.append([forward_ad.unpack_dual(g).tangent for g in gradients])
    assert all(tangent is not None for tangent in results[1])
    torch.testing.assert_close(*results)


def test_backward_inside_autocast_of_a_forward_outside(device: torch.device) -> None:
    """The operators below a forward in float32 stay in float32, in every order."""
    network = stock_network(ACTIVATIONS["curved"], device).float()
    x = torch.randn(3, 4, device=device, requires_grad=True)
    results = []
    for half in (False, True):
        output = chain_of(network)(x)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            (dx,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        results.append(dx)
    assert torch.equal(*results)


def test_operators_called_directly_obey_no_autocast(device: torch.device) -> None:
    x, w = torch.randn(3, 4, device=device), torch.randn(5, 4, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        for input in (x, x.clone().requires_grad_()):
            (y,) = torch.ops.fused_gan.mlp_forward(input, [w], [None], ["relu"], [], [True], [False])
            assert y.dtype == torch.float32


def test_kernels_run_where_nothing_is_differentiated() -> None:
    """Called directly with gradients switched on but wanted by nobody, the backward operators are the kernels'."""
    x, w, dy = torch.randn(3, 4), torch.randn(5, 4), torch.randn(3, 5)
    y = torch.ops.fused_gan.linear_act(x, w, None, "relu")
    calls = {
        "linear_act_backward": (dy, y, x, w, "relu", [], [True] * 3),
        "mlp_backward": (dy, [y], [], x, [w], ["relu"], [], True, [True], [True]),
        "mlp_forward": (x, [w], [None], ["relu"], [], [True], [False]),
    }
    for name, arguments in calls.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            getattr(torch.ops.fused_gan, name)(*arguments)
        ran = {event.name for event in profile.events()}
        assert not ran & {"aten::matmul", "aten::mm", "aten::threshold_backward", "fused_gan::linear_act"}, name
