"""The timed cases: the layers of this project's GANs and VAEs, at usual batch sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

import fused_gan
from fused_gan.ops import reference

SLOPE = 0.2


@dataclass(frozen=True)
class Layer:
    """One linear layer with its activation."""

    name: str
    in_features: int
    out_features: int
    activation: str


LAYERS = (
    Layer("generator 1", 100, 256, "relu"),
    Layer("generator 2", 256, 512, "relu"),
    Layer("generator 3", 512, 1024, "relu"),
    Layer("generator out", 1024, 784, "tanh"),
    Layer("discriminator 1", 784, 1024, "leaky_relu"),
    Layer("discriminator out", 256, 1, "identity"),
    Layer("decoder out", 128, 784, "sigmoid"),
)


@dataclass(frozen=True)
class Chain:
    """A fully connected network."""

    name: str
    widths: tuple[int, ...]
    activations: tuple[str, ...]


CHAINS = (
    Chain("generator", (100, 256, 512, 1024, 784), ("relu", "relu", "relu", "tanh")),
    Chain("tanh generator", (100, 256, 512, 1024, 784), ("tanh", "tanh", "tanh", "tanh")),
    Chain("discriminator", (784, 1024, 512, 256, 1), ("leaky_relu", "leaky_relu", "leaky_relu", "identity")),
    Chain("VAE decoder", (32, 64, 128, 784), ("relu", "relu", "sigmoid")),
)
# Activations whose gradients read the pre-activation.
POINTWISE_CHAINS = tuple(
    Chain(f"{name} network", (100, 256, 512, 1024, 784), (*[name] * 3, "identity"))
    for name in ("gelu", "silu", "mish", "softplus")
)
BATCHES = (1, 16, 64, 256, 1024, 4096)

# mkldnn::_linear_pointwise's name and scalar arguments for each activation.
ONEDNN = {
    "identity": ("none", []),
    "relu": ("relu", []),
    "leaky_relu": ("leaky_relu", [SLOPE]),
    "tanh": ("tanh", []),
    "sigmoid": ("sigmoid", []),
}

Variants = dict[str, Callable[[], object]]

# One compiled function serves all cases. torch.compile specialises it to each, and must not stop after the eighth.
torch._dynamo.config.recompile_limit = 10_000
torch._dynamo.config.accumulated_recompile_limit = 10_000
compiled_layer = torch.compile(reference.linear_act, dynamic=False)
compiled_chain = torch.compile(reference.mlp, dynamic=False)


def stock_network(network: nn.Module) -> nn.Sequential:
    """Return a network of fused layers in stock layers, with a copy of its weights."""
    return nn.Sequential(*copy.deepcopy(network).children())


def traffic(batch: int, in_features: int, out_features: int, dtype: torch.dtype) -> int:
    """Return the bytes of one product's three matrices, each moved once, which are the same in all three directions."""
    return dtype.itemsize * (batch * in_features + in_features * out_features + batch * out_features)


class LayerCase:
    """A layer with its tensors, and every way to run it.

    "floor" is our product without bias and activation. Weight and bias are parameters, as in a module, because
    torch.compile's CUDA graphs read parameters in place and copy every other tensor at each call.
    """

    def __init__(self, layer: Layer, batch: int, dtype: torch.dtype, device: str = "cpu") -> None:
        generator = torch.Generator().manual_seed(0)

        def randn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device, dtype)

        self.layer = layer
        self.dtype = dtype
        self.flops = 2 * batch * layer.in_features * layer.out_features  # of one product
        self.traffic = traffic(batch, layer.in_features, layer.out_features, dtype)  # of one product
        self.input = randn(batch, layer.in_features).requires_grad_()
        self.weight = nn.Parameter(randn(layer.out_features, layer.in_features) * layer.in_features**-0.5)
        self.bias = nn.Parameter(randn(layer.out_features))
        self.grad = randn(batch, layer.out_features)

    def _forward(self, function: Callable[..., Tensor]) -> Callable[[], object]:
        arguments = (self.input.detach(), self.weight.detach(), self.bias.detach(), self.layer.activation, SLOPE)
        return lambda: function(*arguments)

    def _both(self, function: Callable[..., Tensor], bias: Tensor | None, activation: str) -> Callable[[], object]:
        wanted = [tensor for tensor in (self.input, self.weight, bias) if tensor is not None]

        def run() -> object:
            output = function(self.input, self.weight, bias, activation, SLOPE)
            return torch.autograd.grad(output, wanted, self.grad)

        return run

    def forward(self) -> Variants:
        """Return the variants of the forward."""
        variants = {
            "fused_gan": self._forward(fused_gan.linear_act),
            "eager": self._forward(reference.linear_act),
            "compile": self._forward(compiled_layer),
        }
        if self.input.device.type == "cpu" and self.input.dtype in (torch.float32, torch.bfloat16):
            name, scalars = ONEDNN[self.layer.activation]
            tensors = (self.input.detach(), self.weight.detach(), self.bias.detach())
            variants["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(*tensors, name, scalars, "")
        bare = (self.input.detach(), self.weight.detach(), None, "identity")
        variants["floor"] = lambda: fused_gan.linear_act(*bare)
        return variants

    def forward_backward(self) -> Variants:
        name = self.layer.activation
        return {
            "fused_gan": self._both(fused_gan.linear_act, self.bias, name),
            "eager": self._both(reference.linear_act, self.bias, name),
            "compile": self._both(compiled_layer, self.bias, name),
            "floor": self._both(fused_gan.linear_act, None, "identity"),
        }


class ChainCase:
    """A chain with its tensors. The discriminator's input needs a gradient, because it comes from a generator."""

    def __init__(self, chain: Chain, batch: int, dtype: torch.dtype, device: str = "cpu") -> None:
        generator = torch.Generator().manual_seed(0)

        def randn(*shape: int, scale: float = 1) -> Tensor:
            return (torch.randn(shape, generator=generator) * scale).to(device, dtype)

        pairs = list(pairwise(chain.widths))
        self.chain = chain
        self.dtype = dtype
        self.input = randn(batch, chain.widths[0]).requires_grad_(chain.name == "discriminator")
        self.weights = [nn.Parameter(randn(b, a, scale=a**-0.5)) for a, b in pairs]
        self.biases = [nn.Parameter(randn(b)) for _, b in pairs]
        self.grad = randn(batch, chain.widths[-1])
        products = [2 * batch * a * b for a, b in pairs]
        self.flops = 3 * sum(products) - (0 if self.input.requires_grad else products[0])
        moved = [traffic(batch, a, b, dtype) for a, b in pairs]
        self.traffic = 3 * sum(moved) - (0 if self.input.requires_grad else moved[0])

    def _both(self, function: Callable[..., Tensor], bare: bool = False) -> Callable[[], object]:
        biases = [None] * len(self.biases) if bare else self.biases
        activations = ["identity"] * len(self.biases) if bare else self.chain.activations
        tensors = [self.input, *self.weights, *([] if bare else self.biases)]
        wanted = [tensor for tensor in tensors if tensor.requires_grad]

        def run() -> object:
            output = function(self.input, self.weights, biases, activations, SLOPE)
            return torch.autograd.grad(output, wanted, self.grad)

        return run

    def forward_backward(self) -> Variants:
        return {
            "fused_gan": self._both(fused_gan.mlp),
            "eager": self._both(reference.mlp),
            "compile": self._both(compiled_chain),
            "floor": self._both(fused_gan.mlp, bare=True),
        }
