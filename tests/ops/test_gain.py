"""Gain and clamp behind an activation, and a factor of the weight, as StyleGAN's fully connected layers have them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fused_gan
from fused_gan.ops import reference
from fused_gan.ops.activations import ACTIVATIONS
from helpers.networks import ROUNDED_IN_STOCK, operators_run

SCALES: dict[str, dict[str, Any]] = {
    "gain": {"gain": -1.25},
    "clamp": {"clamp": 0.5},
    "both": {"gain": 2**0.5, "clamp": 0.75},
    "weight_gain": {"weight_gain": 0.3},
    "all": {"gain": 2**0.5, "clamp": 0.75, "weight_gain": 0.3},
}


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((9, 7), (6, 7), (6,))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_activation_to_the_second_order(activation: str, scale: dict[str, Any]) -> None:
    results = []
    for function in (fused_gan.linear_act, reference.linear_act):
        arguments = tensors()
        output = function(*arguments, activation=activation, **scale)
        first = torch.autograd.grad(output.sin().sum(), arguments, create_graph=True)
        second: tuple[Tensor | None, ...] = ()
        if activation != "hardsigmoid":  # torch has no second derivative of it
            second = torch.autograd.grad(sum(part.square().sum() for part in first), arguments, allow_unused=True)
        results.append([output, *first, *second])
    tolerance = {"rtol": 1e-6, "atol": 1e-8} if activation in ROUNDED_IN_STOCK else {}
    torch.testing.assert_close(*results, **tolerance)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu", "identity"])
def test_chain(activation: str) -> None:
    x = tensors()[0]
    weights = [
        torch.randn(out, into, dtype=torch.float64, requires_grad=True) for into, out in ((7, 8), (8, 5), (5, 3))
    ]
    biases = [None, torch.randn(5, dtype=torch.float64, requires_grad=True), None]
    options = {"negative_slope": 0.2, "gain": 1.5, "clamp": 2.0, "weight_gain": [0.5, 1.0, 0.25]}
    results = []
    for function in (fused_gan.mlp, reference.mlp):
        output = function(x, weights, biases, [activation] * 3, **options)
        results.append([output, *torch.autograd.grad(output.sin().sum(), [x, *weights, biases[1]])])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu", "tanh", "softplus"])
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_special_values(activation: str, dtype: torch.dtype, clamp: float | None) -> None:
    """What NaN and Inf become, forward and backward, is what torch's operators make of them."""
    special = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 0.25, -0.25]
    values = torch.tensor(special * 9, dtype=dtype)
    found = []
    for function in (fused_gan.linear_act, reference.linear_act):
        bias = values.clone().requires_grad_()
        empty = torch.empty(3, 0, dtype=dtype)
        output = function(empty, empty.new_empty(values.numel(), 0), bias, activation, gain=2.0, clamp=clamp)
        output.sum().backward()
        found.append((output.detach(), bias.grad))
    for ours, stock in zip(*found, strict=True):
        torch.testing.assert_close(ours, stock, equal_nan=True)


def kept(call: Callable[..., Tensor], *arguments: Any, **options: Any) -> int:
    """The elements that autograd keeps for backward, each memory counted once."""
    memories: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        memories[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call(*arguments, **options).sum()  # what is still alive here counts
    return sum(memories.values())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_no_more_is_kept_than_by_stock(activation: str, scale: dict[str, Any]) -> None:
    x, weight, bias = tensors()
    arguments = (x, [weight, weight[:, :6]], [bias, bias], [activation] * 2)
    assert kept(fused_gan.mlp, *arguments, **scale) <= kept(reference.mlp, *arguments, **scale)


def test_as_stylegan_has_it() -> None:
    """y = clamp(√2 leaky_relu(x (w g)ᵀ + b)), https://arxiv.org/abs/1912.04958, written out."""
    layer = fused_gan.FusedLinear(
        7,
        6,
        activation="leaky_relu",
        negative_slope=0.2,
        gain=2**0.5,
        clamp=0.5,
        weight_gain=7**-0.5,
        dtype=torch.float64,
    )
    x = tensors()[0]
    z = F.linear(x, layer.weight * 7**-0.5, layer.bias)
    torch.testing.assert_close(layer(x), (F.leaky_relu(z, 0.2) * 2**0.5).clamp(-0.5, 0.5))
    assert layer(x).abs().max() == 0.5
    assert repr(layer).endswith(f"negative_slope=0.2, gain={2**0.5}, clamp=0.5, weight_gain={7**-0.5})")


def test_layers_of_a_container_run_one_by_one() -> None:
    layers = [fused_gan.FusedLinear(5, 5, activation="relu", gain=1.5), fused_gan.FusedLinear(5, 5, activation="relu")]
    plain = nn.Sequential(*layers)
    fused = fused_gan.fuse(plain)
    x = torch.randn(3, 5)
    torch.testing.assert_close(fused(x), plain(x))
    assert operators_run(fused, x) == [["relu"], ["relu"]]
    fused[0].gain = 1.0
    assert operators_run(fused, x) == [["relu", "relu"]]
    fused[1].weight_gain = 2.0
    plain[0].gain, plain[1].weight_gain = 1.0, 2.0
    torch.testing.assert_close(fused(x), plain(x))


def test_a_layer_saved_before_the_numbers_existed() -> None:
    layer = fused_gan.FusedLinear(5, 4, activation="relu")
    old = copy.copy(layer)
    old.__dict__ = {name: value for name, value in vars(layer).items() if name not in ("gain", "clamp", "weight_gain")}
    x = torch.randn(3, 5)
    torch.testing.assert_close(old(x), layer(x))
    assert "gain" not in repr(old)


def test_stock_has_no_module_for_them() -> None:
    with pytest.raises(ValueError, match=r"layer: expected no clamp, got 2\.0"):
        reference.stock_layers(fused_gan.FusedLinear(5, 4, clamp=2.0))


def test_compiled_exported_and_mapped() -> None:
    x, weight, bias = tensors()
    options = {"activation": "leaky_relu", "gain": 1.5, "clamp": 0.75, "weight_gain": 0.5}
    expected = reference.linear_act(x, weight, bias, **options)
    mapped = torch.func.vmap(lambda row: fused_gan.linear_act(row, weight, bias, **options))(x)
    torch.testing.assert_close(mapped, expected)
    compiled = torch.compile(fused_gan.linear_act, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, weight, bias, **options), expected)
    layer = fused_gan.FusedLinear(7, 6, dtype=torch.float64, **options)
    exported = torch.export.export(layer, (x.detach(),)).module()
    torch.testing.assert_close(exported(x), layer(x))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x))
        ours = torch.autograd.forward_ad.unpack_dual(fused_gan.linear_act(dual, weight, bias, **options)).tangent
        stock = torch.autograd.forward_ad.unpack_dual(reference.linear_act(dual, weight, bias, **options)).tangent
    torch.testing.assert_close(ours, stock)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "gain is a flag": ({"gain": True}, "gain: expected a finite number, got True"),
    "weight_gain is a flag": ({"weight_gain": True}, "weight_gain: expected a finite number, got True"),
    "gain is NaN": ({"gain": float("nan")}, "gain: expected a finite number, got nan"),
    "gain is infinite": ({"gain": float("inf")}, "gain: expected a finite number, got inf"),
    "gain is a text": ({"gain": "2"}, "gain: expected a finite number, got '2'"),
    "clamp is negative": ({"clamp": -1.0}, "clamp: expected a finite number of at least 0, or None, got -1.0"),
    "clamp is NaN": ({"clamp": float("nan")}, "clamp: expected a finite number of at least 0, or None, got nan"),
    "weight_gain is infinite": ({"weight_gain": float("inf")}, "weight_gain: expected a finite number, got inf"),
    "weight_gain is None": ({"weight_gain": None}, "weight_gain: expected a finite number, got None"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_wrong_numbers(given: dict[str, Any], message: str) -> None:
    x, weight, bias = tensors()
    calls: list[Callable[[], Any]] = [
        lambda: fused_gan.linear_act(x, weight, bias, **given),
        lambda: reference.linear_act(x, weight, bias, **given),
        lambda: fused_gan.mlp(x, [weight], [bias], ["relu"], **given),
        lambda: fused_gan.FusedLinear(7, 6, **given),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def test_as_many_weight_gains_as_weights() -> None:
    x, weight, bias = tensors()
    with pytest.raises(
        ValueError, match=r"weight_gain: expected one number, or one for each of the 1 weights, got \[1"
    ):
        fused_gan.mlp(x, [weight], [bias], ["relu"], weight_gain=[1.0, 2.0])


def test_one_weight_gain_for_one_layer() -> None:
    x, weight, bias = tensors()
    for call in (fused_gan.linear_act, reference.linear_act):
        with pytest.raises(ValueError, match=r"^weight_gain: expected a finite number, got \[0\.5\]$"):
            call(x, weight, bias, weight_gain=[0.5])


@pytest.mark.parametrize("name", ["gain", "clamp", "weight_gain"])
def test_a_tensor_set_later_is_refused_by_name(name: str) -> None:
    layer = fused_gan.FusedLinear(5, 4)
    setattr(layer, name, torch.tensor([1.0, 2.0]))
    assert f"{name}=tensor" in repr(layer)
    for model in (layer, fused_gan.fuse(nn.Sequential(layer, nn.ReLU()))):
        with pytest.raises(ValueError, match=f"^{name}: expected a finite number"):
            model(torch.randn(3, 5))


def test_a_fused_mlp_says_who_takes_them() -> None:
    with pytest.raises(TypeError, match=r"^gain: expected none, as the layers are stock's.*take mlp\(\)$"):
        fused_gan.FusedMLP([5, 4], gain=2.0)


def test_a_weight_of_another_kind_is_refused_all_the_same() -> None:
    x, weight, bias = tensors()
    with pytest.raises(TypeError, match="weight: expected dtype float32"):
        fused_gan.linear_act(x, weight.detach().to(torch.int64), bias, weight_gain=0.5)
