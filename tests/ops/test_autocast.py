"""Under autocast the operator casts as F.linear does, and AMP training goes the same way."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fused_gan import FusedLinear
from fused_gan.ops.reference import stock_layers
from helpers.cases import DTYPES, WAYS, Shape, arguments
from helpers.tolerance import assert_all_as_close_as_stock, first_order, leaves, operators

SMALL = Shape((30,), 14, 15)
HALVES = [torch.bfloat16, torch.float16]
every_activation = pytest.mark.parametrize("activation", WAYS)
every_half = pytest.mark.parametrize("half", HALVES, ids=["bfloat16", "float16"])


def under_autocast(operator, device: torch.device, half: torch.dtype):  # type: ignore[no-untyped-def]
    def run(*tensors: Tensor) -> Tensor:
        with torch.autocast(device.type, half):
            return operator(*tensors)

    return run


@every_half
@every_activation
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_as_stock(bias: bool, activation: str, half: torch.dtype, device: torch.device) -> None:
    args = arguments(SMALL, device=device, bias=bias)
    args = args._replace(grad=args.grad.to(half))
    ours, stock = operators(activation)
    results = first_order(under_autocast(ours, device, half), args)
    assert results["output"].dtype == half
    assert results["gradient of weight"].dtype == torch.float32
    rounded = args._replace(**{k: v.to(half) for k, v in args._asdict().items() if v is not None})
    truth = first_order(stock, rounded.to(torch.float64))
    for name, tensor in first_order(under_autocast(stock, device, half), args).items():
        if tensor is None:
            continue
        # Gradients of float32 leaves were computed in the half type: measure them by its eps.
        one, other = (r.to(half) for r in (results[name], tensor))
        assert_all_as_close_as_stock({name: one}, {name: other}, {name: truth[name]})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_which_dtypes_are_cast(dtype: torch.dtype, device: torch.device) -> None:
    """float64 is left alone on CPU and on CUDA, as by F.linear."""
    args = arguments(SMALL, dtype, device)
    ours, stock = (under_autocast(op, device, torch.bfloat16)(*args[:3]).dtype for op in operators("identity"))
    assert ours == stock


def test_mixed_arguments_are_welcome(device: torch.device) -> None:
    """A 16-bit activation coming from above meets float32 weights: the usual case."""
    args = arguments(SMALL, device=device)
    x = args.input.bfloat16()
    outputs = [under_autocast(op, device, torch.bfloat16)(x, *args[1:3]) for op in operators("tanh")]
    torch.testing.assert_close(*outputs)


def test_switched_off_inside(device: torch.device) -> None:
    args = arguments(SMALL, device=device)
    with torch.autocast(device.type, torch.bfloat16), torch.autocast(device.type, enabled=False):
        assert operators("relu")[0](*args[:3]).dtype == torch.float32


def test_other_devices_autocast_does_not_matter(device: torch.device) -> None:
    other = "cuda" if device.type == "cpu" else "cpu"
    with torch.autocast(other, torch.bfloat16, cache_enabled=False):
        assert operators("relu")[0](*arguments(SMALL, device=device)[:3]).dtype == torch.float32


def test_weights_are_cast_once_a_region(device: torch.device) -> None:
    """Two uses of a parameter share one cast, so both gradients pass through one node."""
    x, w, b = leaves(arguments(SMALL, device=device), (False, True, True))

    def casts(operator) -> int:  # type: ignore[no-untyped-def]
        nodes = set()
        with torch.autocast(device.type, torch.bfloat16):
            y = operator(x, w, b) + operator(x + 1, w, b)
        todo = [y.grad_fn]
        while todo:
            node = todo.pop()
            if node and node not in nodes:
                nodes.add(node)
                todo += [following for following, _ in node.next_functions]
        return sum("ToCopy" in node.name() for node in nodes)

    ours, stock = (casts(operator) for operator in operators("relu"))
    assert ours == stock == 2


@pytest.mark.parametrize("half", [torch.bfloat16], ids=["bfloat16"])
@every_activation
def test_gradient_penalty_inside_autocast(activation: str, half: torch.dtype, device: torch.device) -> None:
    """Second order with everything inside the region, as AMP training of WGAN-GP runs it."""
    args = arguments(SMALL, device=device)
    results = []
    for operator in operators(activation):
        x, w, b = leaves(args)
        with torch.autocast(device.type, half):
            (dx,) = torch.autograd.grad(operator(x, w, b).float().sum(), x, create_graph=True)
            (dx.norm(2, dim=1) - 1).square().mean().backward()
        results.append((w.grad, b.grad))
    for ours, stock in zip(*results, strict=True):
        assert (ours is None) == (stock is None)
        if ours is not None:
            torch.testing.assert_close(ours, stock, rtol=0.03, atol=0.03)


@every_half
@pytest.mark.parametrize("scaled", [False, True], ids=["no scaler", "GradScaler"])
def test_training(scaled: bool, half: torch.dtype, device: torch.device) -> None:
    """Ten steps, side by side with stock layers; the scaler sees the same finite gradients."""
    fused = nn.Sequential(
        FusedLinear(6, 32, activation="leaky_relu"),
        FusedLinear(32, 16, activation="tanh"),
        FusedLinear(16, 3, activation="identity"),
    ).to(device)
    stock = copy.deepcopy(nn.Sequential(*(stock_layers(layer) for layer in fused)))
    x = torch.randn(64, 6, device=device)
    losses = []
    for network in (fused, stock):
        steps = torch.optim.Adam(network.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler(device.type, init_scale=1024.0, enabled=scaled)
        losses.append([])
        for _ in range(10):
            steps.zero_grad()
            with torch.autocast(device.type, half):
                loss = (network(x) - x[:, :3].sin()).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(steps)
            scaler.update()
            losses[-1].append(loss.item())
        assert not scaled or scaler.get_scale() == 1024
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert losses[0][-1] < 0.8 * losses[0][0]


def test_scaler_skips_a_step_with_an_infinite_gradient(device: torch.device) -> None:
    layer = FusedLinear(4, 2, activation="leaky_relu").to(device)
    before = layer.weight.detach().clone()
    steps, scaler = torch.optim.SGD(layer.parameters(), lr=1), torch.amp.GradScaler(device.type, init_scale=2.0**40)
    with torch.autocast(device.type, torch.float16):
        loss = layer(torch.randn(8, 4, device=device)).sum()
    scaler.scale(loss).backward()
    scaler.step(steps)
    scaler.update()
    assert torch.equal(layer.weight, before)
    assert scaler.get_scale() < 2.0**40
