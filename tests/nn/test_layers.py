"""FusedLinear has an nn.Linear's parameters and initial values, and computes its activation too."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from fused_gan import FusedLinear
from fused_gan.ops.activations import ACTIVATIONS
from fused_gan.ops.reference import stock_layers
from helpers.cases import ACTIVATION_NAMES, SLOPES, arguments
from helpers.cases import Shape as ShapeOf
from helpers.tolerance import assert_all_as_close_as_stock

every_activation = pytest.mark.parametrize("activation", ACTIVATION_NAMES)


@every_activation
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("leading", [(), (5,), (2, 3, 4), (0,)], ids=str)
def test_same_as_linear_and_activation(
    leading: tuple[int, ...], bias: bool, activation: str, device: torch.device
) -> None:
    layer = FusedLinear(6, 9, bias, activation, negative_slope=0.2, device=device)
    stock = stock_layers(layer)
    args = arguments(ShapeOf(leading, 6, 9), device=device)

    def run(module: nn.Module, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
        module.zero_grad()
        output = module(x)
        output.backward(dy)
        return {"output": output, **{f"gradient {i}": p.grad.clone() for i, p in enumerate(module.parameters())}}

    truth = run(copy.deepcopy(stock).double(), args.input.double(), args.grad.double())
    assert_all_as_close_as_stock(run(layer, args.input, args.grad), run(stock, args.input, args.grad), truth)


def test_same_initial_values_and_random_state_from_the_same_seed() -> None:
    torch.manual_seed(7)
    stock, after_stock = nn.Linear(30, 20), torch.rand(3)
    torch.manual_seed(7)
    fused, after_fused = FusedLinear(30, 20), torch.rand(3)
    assert torch.equal(fused.weight, stock.weight)
    assert torch.equal(fused.bias, stock.bias)
    assert torch.equal(after_fused, after_stock)


class OfOnes(FusedLinear):
    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)


def test_a_subclass_draws_its_own_initial_values() -> None:
    assert torch.equal(OfOnes(3, 2).weight, torch.ones(2, 3))


def test_state_dict_goes_both_ways() -> None:
    fused, stock = FusedLinear(4, 5), nn.Linear(4, 5)
    assert list(fused.state_dict()) == list(stock.state_dict()) == ["weight", "bias"]
    fused.load_state_dict(stock.state_dict())
    assert torch.equal(fused.weight, stock.weight)
    nn.Linear(4, 5).load_state_dict(fused.state_dict())
    assert list(FusedLinear(4, 5, bias=False).state_dict()) == ["weight"]


def test_has_the_attributes_of_a_linear_and_is_none() -> None:
    """Tools that look for Linears would replace it by what lacks the activation."""
    layer = FusedLinear(4, 5)
    assert not isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features) == (4, 5)
    assert FusedLinear(4, 5, False).bias is None
    assert FusedLinear(4, 5, dtype=torch.float64, device="meta").weight.dtype == torch.float64


def through_pickle(layer: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(layer))


def through_a_file(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, through_pickle, through_a_file], ids=["deepcopy", "pickle", "torch.save"]
)
@every_activation
def test_copies(copied, activation: str) -> None:  # type: ignore[no-untyped-def]
    layer = FusedLinear(4, 5, activation=activation, negative_slope=0.3)
    twin = copied(layer)
    assert type(twin) is FusedLinear
    x = torch.randn(3, 4)
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        twin.weight.zero_()
    assert layer.weight.abs().sum() > 0, "the copy shares its weight"


def test_state_dict_loads_with_weights_only() -> None:
    file = io.BytesIO()
    torch.save(FusedLinear(4, 5).state_dict(), file)
    file.seek(0)
    assert list(torch.load(file, weights_only=True)) == ["weight", "bias"]


@every_activation
def test_repr(activation: str) -> None:
    slope = ", negative_slope=0.2" if activation == "leaky_relu" else ""
    layer = FusedLinear(4, 5, activation=activation, negative_slope=0.2)
    assert repr(layer) == f"FusedLinear(in_features=4, out_features=5, bias=True, activation='{activation}'{slope})"


@pytest.mark.parametrize("slope", SLOPES)
def test_slope_is_handed_on(slope: float) -> None:
    layer = FusedLinear(1, 1, bias=False, activation="leaky_relu", negative_slope=slope)
    nn.init.ones_(layer.weight)
    assert layer(torch.tensor([-2.0])).item() == pytest.approx(-2 * slope)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_moves_to_a_dtype_and_back(dtype: torch.dtype, device: torch.device) -> None:
    layer = FusedLinear(4, 5).to(device)
    y = layer.to(dtype)(torch.randn(3, 4, device=device, dtype=dtype))
    assert y.dtype == dtype
    assert layer.float()(torch.randn(3, 4, device=device)).dtype == torch.float32


def test_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert FusedLinear(4, 5)(torch.randn(3, 4)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_meta_device_and_late_initialisation(device: torch.device) -> None:
    layer = FusedLinear(4, 5, device="meta")
    assert layer(torch.empty(3, 4, device="meta")).shape == (3, 5)
    layer.to_empty(device=device).reset_parameters()
    assert layer(torch.randn(3, 4, device=device)).isfinite().all()


def test_parametrised_weight(device: torch.device) -> None:
    layer = nn.utils.parametrizations.spectral_norm(FusedLinear(4, 5, device=device))
    layer(torch.randn(3, 4, device=device)).sum().backward()
    assert layer.parametrizations.weight.original.grad.isfinite().all()


def test_functional_call() -> None:
    layer = FusedLinear(4, 5)
    y = torch.func.functional_call(layer, {"weight": torch.zeros(5, 4), "bias": torch.arange(5.0)}, torch.randn(4))
    assert torch.equal(y, torch.arange(5.0))


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [(torch.optim.SGD, 1.0), (torch.optim.Adam, 0.01), (torch.optim.AdamW, 0.01)],
    ids=["SGD", "Adam", "AdamW"],
)
def test_fifty_training_steps_in_float64(optimizer: type, rate: float, device: torch.device) -> None:
    """A network of every activation learns step by step what the same stock network learns."""
    widths = [6, 16, 12, 10, 8, 3]
    fused = nn.Sequential(
        *(
            FusedLinear(i, o, activation=name, negative_slope=0.2, dtype=torch.float64, device=device)
            for i, o, name in zip(widths[:-1], widths[1:], reversed(ACTIVATIONS), strict=True)
        )
    )
    stock = copy.deepcopy(nn.Sequential(*(stock_layers(layer) for layer in fused)))
    x = torch.randn(32, 6, dtype=torch.float64, device=device)
    target = x[:, :3].sin()
    losses = []
    for network in (fused, stock):
        steps = optimizer(network.parameters(), lr=rate)
        for _ in range(50):
            steps.zero_grad()
            loss = (network(x) - target).square().mean()
            loss.backward()
            steps.step()
        losses.append(loss)
    assert losses[0] < 0.9 * target.square().mean()
    for ours, theirs in zip(fused.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
