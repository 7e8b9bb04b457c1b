"""FusedLinear has an nn.Linear's parameters and initial values, and computes its activation too."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fused_gan import FusedLinear
from fused_gan.ops.activations import ACTIVATIONS
from fused_gan.ops.reference import stock_layers
from helpers.cases import ACTIVATION_NAMES, SLOPES, arguments
from helpers.cases import Shape as ShapeOf
from helpers.networks import ROUNDED_IN_STOCK
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
    added = {
        "leaky_relu": ", negative_slope=0.2",
        "hardtanh": ", min_val=-1.0, max_val=1.0",
        "elu": ", alpha=1.0",
        "celu": ", alpha=1.0",
        "softplus": ", beta=1.0, threshold=20.0",
    }.get(activation, "")
    layer = FusedLinear(4, 5, activation=activation, negative_slope=0.2)
    assert repr(layer) == f"FusedLinear(in_features=4, out_features=5, bias=True, activation='{activation}'{added})"


@pytest.mark.parametrize("slope", SLOPES)
def test_slope_is_handed_on(slope: float) -> None:
    layer = FusedLinear(1, 1, bias=False, activation="leaky_relu", negative_slope=slope)
    nn.init.ones_(layer.weight)
    assert layer(torch.tensor([-2.0])).item() == pytest.approx(-2 * slope)


PARAMETERS: dict[str, dict[str, float]] = {
    "hardtanh": {"min_val": -0.3, "max_val": 0.4},
    "elu": {"alpha": -0.7},
    "celu": {"alpha": 0.6},
    "softplus": {"beta": 3.0, "threshold": 0.5},
}


@pytest.mark.parametrize("activation", PARAMETERS)
def test_parameters_are_handed_on_and_may_change(activation: str) -> None:
    layer = FusedLinear(4, 5, activation=activation, dtype=torch.float64, **PARAMETERS[activation])
    stock, inputs = stock_layers(layer), torch.randn(50, 4, dtype=torch.float64)
    for name, value in PARAMETERS[activation].items():
        assert getattr(layer, name) == getattr(stock[1], name) == value
        torch.testing.assert_close(layer(inputs), stock(inputs))
        for model in (layer, stock[1]):
            setattr(model, name, value + 0.1)
        torch.testing.assert_close(layer(inputs), stock(inputs))
    for twin in (copy.deepcopy(layer), through_pickle(layer), through_a_file(layer)):
        assert torch.equal(twin(inputs), layer(inputs))


def test_an_activation_that_is_changed_has_torchs_defaults() -> None:
    layer, inputs = FusedLinear(4, 5, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    layer.activation = "softplus"
    z = nn.functional.linear(inputs, layer.weight, layer.bias)
    torch.testing.assert_close(layer(inputs), nn.functional.softplus(z))
    layer.beta = 3
    torch.testing.assert_close(layer(inputs), nn.functional.softplus(z, 3))
    layer.beta = float("nan")
    with pytest.raises(ValueError, match=r"^beta: expected a finite number, got nan$"):
        layer(inputs)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"activation": "gelu", "alpha": 1.0}, ValueError, "^alpha: expected no value without 'elu' or 'celu' among"),
        ({"activation": "elu", "alpha": "1"}, ValueError, "^alpha: expected a finite number, got '1'$"),
        ({"activation": "elu", "alpha": True}, ValueError, "^alpha: expected a finite number, got True$"),
        ({"activation": "elu", "alpha": 10**400}, ValueError, "^alpha: expected a finite number, got 1000"),
        ({"activation": "celu", "alpha": 0.0}, ValueError, "^alpha: expected a finite number other than 0, got 0.0$"),
        ({"activation": "softplus", "beta": 0}, ValueError, "^beta: expected a finite number other than 0, got 0$"),
        (
            {"activation": "hardtanh", "max_val": -2},
            ValueError,
            r"^min_val: expected at most max_val \(-2\), got -1.0$",
        ),
        ({"activation": "elu", "slope": 1.0}, TypeError, "^slope: expected one of the parameters negative_slope, .*"),
    ],
)
def test_parameters_that_are_refused(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        FusedLinear(4, 5, **given)


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
    [(torch.optim.SGD, 0.3), (torch.optim.Adam, 0.01), (torch.optim.AdamW, 0.01)],
    ids=["SGD", "Adam", "AdamW"],
)
@pytest.mark.parametrize("first", range(0, len(ACTIVATIONS), 5))
def test_fifty_training_steps_in_float64(first: int, optimizer: type, rate: float, device: torch.device) -> None:
    """Networks of every activation learn step by step what the same stock networks learn."""
    names = ["identity", *list(reversed(ACTIVATIONS))[first : first + 5]][::-1]
    widths = [6, *(16 - 2 * i for i in range(len(names) - 1)), 3]
    fused = nn.Sequential(
        *(
            FusedLinear(i, o, activation=name, negative_slope=0.2, dtype=torch.float64, device=device)
            for i, o, name in zip(widths[:-1], widths[1:], names, strict=True)
        )
    )
    stock = copy.deepcopy(nn.Sequential(*(stock_layers(layer) for layer in fused)))
    x = torch.randn(32, 6, dtype=torch.float64, device=device)
    target = x[:, :3].sin()
    losses, at_first = [], (fused(x) - target).square().mean().item()
    for network in (fused, stock):
        steps = optimizer(network.parameters(), lr=rate)
        for _ in range(50):
            steps.zero_grad()
            loss = (network(x) - target).square().mean()
            loss.backward()
            steps.step()
        losses.append(loss)
    assert losses[0] < 0.9 * at_first
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if set(names) & set(ROUNDED_IN_STOCK) else {"rtol": 1e-9, "atol": 1e-11}
    for ours, theirs in zip(fused.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)
