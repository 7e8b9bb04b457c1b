"""A chain as one operator gives what its layers give one by one, in every order of derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from cases import DTYPES
from tolerance import assert_all_as_close_as_stock
from torch import Tensor
from torch.library import opcheck

import fused_gan
from fused_gan.ops import reference

SLOPE = 0.2


class Chain(NamedTuple):
    widths: tuple[int, ...]
    activations: tuple[str, ...]


CHAINS = {
    "generator": Chain((100, 256, 512, 784), ("relu", "relu", "tanh")),
    "discriminator": Chain((784, 256, 64, 1), ("leaky_relu", "leaky_relu", "identity")),
    "odd widths": Chain((33, 17, 5, 70), ("tanh", "sigmoid", "relu")),
    "a bottleneck": Chain((20, 3, 2, 600, 1), ("sigmoid", "identity", "leaky_relu", "tanh")),
    "one layer": Chain((32, 64), ("relu",)),
    "no features between": Chain((5, 0, 4), ("tanh", "tanh")),
}
chains = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)


def layer_by_layer(
    input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], activations: Sequence[str], slope: float
) -> Tensor:
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        input = reference.linear_act(input, weight, bias, activation, slope)
    return input


def parameters(
    chain: Chain, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Weights, scaled so that outputs are of order 1, and biases; the second layer has none."""
    pairs = list(zip(chain.widths, chain.widths[1:], strict=False))
    weights = [(torch.randn(b, a) * max(a, 1) ** -0.5).to(device, dtype) for a, b in pairs]
    biases = [None if i == 1 else torch.randn(b).to(device, dtype) for i, (_, b) in enumerate(pairs)]
    return weights, biases


def run(
    function: Callable[..., Tensor],
    chain: Chain,
    tensors: tuple[Tensor, list[Tensor], list[Tensor | None]],
    dtype: torch.dtype,
    frozen: Sequence[int] = (),
) -> dict[str, Tensor]:
    """The output and all gradients; the weights and biases of `frozen` layers get none."""

    def leaf(tensor: Tensor | None, i: int) -> Tensor | None:
        return None if tensor is None else tensor.to(dtype, copy=True).requires_grad_(i not in frozen)

    x, weights, biases = tensors
    input = leaf(x, -1)
    own_weights = [leaf(tensor, i) for i, tensor in enumerate(weights)]
    own_biases = [leaf(tensor, i) for i, tensor in enumerate(biases)]
    output = function(input, own_weights, own_biases, chain.activations, SLOPE)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(output.shape, generator=generator).to(output.device, x.dtype).to(dtype)
    output.backward(grad)
    results = {"output": output, "input": input}
    results |= {f"weights[{i}]": tensor for i, tensor in enumerate(own_weights)}
    results |= {f"biases[{i}]": tensor for i, tensor in enumerate(own_biases)}
    graded = {name: tensor.grad for name, tensor in results.items() if name != "output" and tensor is not None}
    return {"output": output.detach()} | {name: grad for name, grad in graded.items() if grad is not None}


def assert_chain_equals_layers(chain: Chain, tensors: tuple, dtype: torch.dtype, frozen: Sequence[int] = ()) -> None:
    ours = run(fused_gan.mlp, chain, tensors, dtype, frozen)
    stock = run(layer_by_layer, chain, tensors, dtype, frozen)
    truth = run(layer_by_layer, chain, tensors, torch.float64, frozen)
    # In float64 the truth has no more digits than stock. In 16 bits the derivative is read from a rounded output: near
    # ±1 one unit of tanh is half of 1 − y², and who rounds to which side is luck (over 300 seeds the medians agree).
    # On CUDA, in float32 too: products are added up in another order, a chain ending in one tanh makes much of it, and
    # over 60 seeds the medians agree (1.06).
    luck = {torch.float32: 4 if tensors[0].is_cuda else 1, torch.float64: 8}.get(dtype, 4)
    assert_all_as_close_as_stock(ours, stock, truth, luck)


@chains
@pytest.mark.parametrize("samples", [0, 1, 7, 12, 64, 100, 300])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_equivalence(chain: Chain, samples: int, dtype: torch.dtype, device: torch.device) -> None:
    x = torch.randn(samples, chain.widths[0]).to(device, dtype)
    assert_chain_equals_layers(chain, (x, *parameters(chain, dtype, device)), dtype)


@pytest.mark.parametrize("frozen", [(-1,), (0, 1, 2), (-1, 0), (1,), (-1, 0, 1), (2,)], ids=str)
def test_only_what_is_wanted(frozen: tuple[int, ...], device: torch.device) -> None:
    """The input is layer −1."""
    chain = CHAINS["generator"]
    x = torch.randn(65, 100).to(device)
    assert_chain_equals_layers(chain, (x, *parameters(chain, torch.float32, device)), torch.float32, frozen)


@pytest.mark.parametrize("shape", [(100,), (3, 100), (2, 0, 100), (2, 3, 4, 100)], ids=str)
def test_leading_dimensions(shape: tuple[int, ...], device: torch.device) -> None:
    chain = CHAINS["generator"]
    tensors = (torch.randn(shape).to(device), *parameters(chain, torch.float32, device))
    assert_chain_equals_layers(chain, tensors, torch.float32)


def test_any_strides(device: torch.device) -> None:
    chain = CHAINS["odd widths"]
    weights, biases = parameters(chain, torch.float32, device)
    transposed = [weight.t().contiguous().t() for weight in weights]
    spread = [bias if bias is None else bias.repeat_interleave(2)[::2] for bias in biases]
    x = torch.randn(33, 70).to(device).t()
    assert_chain_equals_layers(chain, (x, transposed, spread), torch.float32)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_number_of_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name in ("generator", "a bottleneck"):
            chain = CHAINS[name]
            x = torch.randn(200, chain.widths[0])
            assert_chain_equals_layers(chain, (x, *parameters(chain, torch.float32)), torch.float32)
    finally:
        torch.set_num_threads(before)


SMALL = {
    "curved": Chain((5, 4, 6, 3), ("tanh", "sigmoid", "tanh")),
    "straight": Chain((5, 4, 6, 3), ("relu", "leaky_relu", "identity")),
    "mixed": Chain((5, 4, 6, 2, 3), ("leaky_relu", "tanh", "identity", "sigmoid")),
}


@pytest.mark.parametrize("chain", SMALL.values(), ids=SMALL)
def test_first_and_second_derivatives(chain: Chain) -> None:
    weights, biases = parameters(chain, torch.float64)
    tensors = [torch.randn(3, 5, dtype=torch.float64), *weights, *(bias for bias in biases if bias is not None)]
    tensors = [tensor.requires_grad_() for tensor in tensors]

    def function(x: Tensor, *rest: Tensor) -> Tensor:
        left = iter(rest[len(weights) :])
        own = [None if bias is None else next(left) for bias in biases]
        return fused_gan.mlp(x, rest[: len(weights)], own, chain.activations, 0.3)

    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


def test_operator_contract(device: torch.device) -> None:
    chain = SMALL["mixed"]
    weights, biases = parameters(chain, torch.float32, device)
    x = torch.randn(3, 5, device=device, requires_grad=True)
    arguments = (x, [w.requires_grad_() for w in weights], biases, chain.activations, SLOPE)
    opcheck(torch.ops.fused_gan.mlp, arguments)
    with torch.no_grad():
        outputs = torch.ops.fused_gan.mlp_forward(*arguments)
    flags = [True] * len(weights)
    plain = [w.detach() for w in weights]
    backward = (outputs[-1], outputs, x.detach(), plain, chain.activations, SLOPE, True, flags, flags)
    opcheck(torch.ops.fused_gan.mlp_backward, backward)


def test_compile(device: torch.device) -> None:
    chain = SMALL["curved"]
    weights, biases = parameters(chain, torch.float32, device)
    x = torch.randn(3, 5, device=device, requires_grad=True)
    compiled = torch.compile(fused_gan.mlp, fullgraph=True)
    ours = compiled(x, weights, biases, chain.activations)
    (gradient,) = torch.autograd.grad(ours.sum(), x)
    (expected,) = torch.autograd.grad(fused_gan.mlp(x, weights, biases, chain.activations).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_autocast_and_vmap(device: torch.device) -> None:
    chain = SMALL["curved"]
    weights, biases = parameters(chain, torch.float32, device)
    x = torch.randn(4, 3, 5, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        assert fused_gan.mlp(x, weights, biases, chain.activations).dtype == torch.bfloat16
    batched = torch.vmap(lambda rows: fused_gan.mlp(rows, weights, biases, chain.activations))(x)
    torch.testing.assert_close(batched, fused_gan.mlp(x, weights, biases, chain.activations))


W = torch.ones(4, 3)
ERRORS = {
    "no layers": (([], [], []), r"weights: expected at least one"),
    "biases missing": (([W], [], ["relu"]), r"biases: expected one \(or None\) for each of the 1 weights, got 0"),
    "activations missing": (([W], [None], []), r"activations: expected one for each of the 1 weights, got 0"),
    "input too wide": (([W[:, :2]], [None], ["relu"]), r"weights\[0\]: expected in_features 3"),
    "layers that do not fit": (([W, W], [None, None], ["relu"] * 2), r"weights\[1\]: expected in_features 4"),
    "a bias too long": (([W], [torch.ones(3)], ["relu"]), r"biases\[0\]: expected shape \(4,\)"),
    "unknown activation": (([W], [None], ["gelu"]), r"activation: expected one of 'identity'"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_errors(arguments: tuple[list, list, list], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fused_gan.mlp(torch.ones(2, 3), *arguments)


def test_activations_as_one_string() -> None:
    with pytest.raises(
        TypeError, match="activations: expected a sequence of names, one a layer, got the string 'relu'"
    ):
        fused_gan.mlp(torch.ones(2, 3), [W], [None], "relu")
