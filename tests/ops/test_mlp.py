"""A chain as one operator gives what its layers give one by one, in every order of derivative."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

import fused_gan
from fused_gan.ops.activations import UNSCALED
from helpers.cases import DTYPES
from helpers.chains import CHAINS, SLOPE, Chain, assert_chain_equals_layers, parameters

chains = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)


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
    "pre-activations": Chain((5, 4, 6, 3), ("gelu", "softplus", "silu")),
    "both": Chain((5, 4, 6, 2, 3), ("gelu", "tanh", "softplus", "identity")),
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
    numbers = [SLOPE, 0.0, *UNSCALED] * len(weights)
    arguments = (x, [w.requires_grad_() for w in weights], biases, chain.activations, numbers)
    opcheck(torch.ops.fused_gan.mlp, arguments)
    flags = [True] * len(weights)
    reads_input = [name in ("gelu", "softplus", "silu") for name in chain.activations]
    with torch.no_grad():
        tensors = torch.ops.fused_gan.mlp_forward(*arguments, flags, reads_input)
    outputs, preactivations = tensors[: len(weights)], tensors[len(weights) :]
    plain = [w.detach() for w in weights]
    backward = (
        *(outputs[-1], outputs, preactivations, x.detach(), plain, chain.activations, numbers),
        *(True, flags, flags),
    )
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
    "unknown activation": (([W], [None], ["swish"]), r"activation: expected one of 'identity'"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_errors(arguments: tuple[list, list, list], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fused_gan.mlp(torch.ones(2, 3), *arguments)


def test_activations_as_one_string() -> None:
    with pytest.raises(
        TypeError, match="activations: expected a sequence of names, one per layer, got the string 'relu'"
    ):
        fused_gan.mlp(torch.ones(2, 3), [W], [None], "relu")
