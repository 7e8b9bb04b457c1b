"""The chains that tests of mlp() go through, and the comparison of a chain with its layers, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import fused_gan
from helpers.tolerance import assert_all_as_close_as_stock, operators

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
    "pre-activations": Chain((48, 130, 70, 90, 21), ("gelu", "tanh", "softplus", "silu")),
    "a scale": Chain((40, 200, 1), ("elu", "softplus")),
    "no features between": Chain((5, 0, 4), ("tanh", "tanh")),
}


def layer_by_layer(
    input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], activations: Sequence[str], slope: float
) -> Tensor:
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        input = operators(activation, slope)[1](input, weight, bias)
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
