"""The timed cases on a GPU: layers, chains and training steps by us, stock PyTorch, torch.compile and bare products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from math import gcd
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fused_gan
from benchmarks.cases import CHAINS, LAYERS, SLOPE, Chain, ChainCase, Layer, LayerCase, stock_network
from benchmarks.gpu.timing import Calls, copies
from fused_gan.models import MLPGANConfig
from fused_gan.ops import reference

T = TypeVar("T")
DEVICE = "cuda"

# torch.compile's modes, the quickest to compile first. Modes that make graphs of their own cannot be captured in our
# graphs.
MODES = ("default", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")
CAPTURABLE_MODES = ("default", "max-autotune-no-cudagraphs")

WIDE_LAYERS = (
    Layer("1024 wide", 1024, 1024, "relu"),
    Layer("4096 wide", 4096, 4096, "leaky_relu"),
    Layer("1024 to 4096", 1024, 4096, "tanh"),
)
WIDE_CHAINS = (
    Chain("1024 wide", (1024,) * 5, ("relu",) * 4),
    Chain("4096 wide", (4096,) * 4, ("leaky_relu",) * 3),
)


@dataclass(frozen=True)
class Precision:
    """A dtype, and PyTorch's precision setting for float32."""

    name: str
    dtype: torch.dtype
    float32: str = "highest"

    def apply(self) -> None:
        """Set PyTorch's precision of float32 products."""
        torch.set_float32_matmul_precision(self.float32)


PRECISIONS = (
    Precision("bfloat16", torch.bfloat16),
    Precision("float32", torch.float32),
    Precision("tf32", torch.float32, "high"),
    Precision("float16", torch.float16),
)


@dataclass(frozen=True)
class Case:
    """One line of a table. `make` builds the variants, "fused_gan" first, and adds the given modes of torch.compile."""

    name: str
    precision: Precision
    flops: int
    make: Callable[[tuple[str, ...]], dict[str, Calls]]
    capturable: bool = True  # whether the case is also timed in a graph of the benchmark's own


def golden_section_order(items: Iterable[T]) -> list[T]:
    """Return the items in steps of a golden section, so that every beginning of the order is spread over all items."""
    found = list(items)
    step = next(step for step in count(round(0.618 * len(found))) if gcd(step, len(found)) == 1)
    return [found[index * step % len(found)] for index in range(len(found))]


def compiled(function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:
    return torch.compile(function, mode=mode, dynamic=False)


def operand_sets(bytes_touched: int, modes: tuple[str, ...]) -> int:
    """Return how many sets of operands all variants run on in turn.

    With torch.compile it is one set. Its graphs hold the addresses of parameters, so a second set would be recorded,
    and looked up at every call, which does not happen to users.
    """
    return 1 if modes else copies(bytes_touched)


def layer_forward(layer: Layer, batch: int, precision: Precision) -> Case:
    """Return the case of a layer's forward."""
    element = precision.dtype.itemsize
    touched = element * (batch * (layer.in_features + layer.out_features) + layer.in_features * layer.out_features)

    def make(modes: tuple[str, ...]) -> dict[str, Calls]:
        sets = range(operand_sets(touched, modes))
        cases = [LayerCase(layer, batch, precision.dtype, DEVICE) for _ in sets]
        for case in cases:
            for tensor in (case.input, case.weight, case.bias):
                tensor.requires_grad_(False)
        arguments = [(c.input, c.weight, c.bias, layer.activation, SLOPE) for c in cases]

        def calls(function: Callable[..., Tensor]) -> Calls:
            return [lambda a=a: function(*a) for a in arguments]

        variants = {"fused_gan": calls(fused_gan.linear_act), "eager": calls(reference.linear_act)}
        variants |= {f"compile {mode}": calls(compiled(reference.linear_act, mode)) for mode in modes}
        variants["floor"] = [lambda a=a: a[0] @ a[1].t() for a in arguments]
        return variants

    name = f"layer forward, {layer.name}, {batch} × {layer.in_features} → {layer.out_features}, {layer.activation}"
    flops = 2 * batch * layer.in_features * layer.out_features
    return Case(f"{name}, {precision.name}", precision, flops, make)


def chain_training(chain: Chain, batch: int, precision: Precision) -> Case:
    """Return the case of a chain's forward and backward."""
    sizes = list(pairwise(chain.widths))
    touched = precision.dtype.itemsize * (2 * sum(a * b for a, b in sizes) + 3 * batch * sum(chain.widths))
    flops = ChainCase(chain, 1, precision.dtype).flops * batch

    def make(modes: tuple[str, ...]) -> dict[str, Calls]:
        sets = range(operand_sets(touched, modes))
        cases = [ChainCase(chain, batch, precision.dtype, DEVICE) for _ in sets]
        variants = {
            "fused_gan": [c._both(fused_gan.mlp) for c in cases],
            "eager": [c._both(reference.mlp) for c in cases],
        }
        for mode in modes:
            function = compiled(reference.mlp, mode)
            variants[f"compile {mode}"] = [c._both(function) for c in cases]
        variants["floor"] = [bare_products(c) for c in cases]
        return variants

    name = f"chain forward + backward, {chain.name}, batch {batch}, {precision.name}"
    return Case(name, precision, flops, make)


def bare_products(case: ChainCase) -> Callable[[], object]:
    """Return a call of the products of forward and backward alone, one after the other."""
    weights = [weight.detach() for weight in case.weights]
    inputs = [torch.randn(len(case.input), w.shape[1], device=DEVICE, dtype=w.dtype) for w in weights]
    grads = [torch.randn(len(case.input), w.shape[0], device=DEVICE, dtype=w.dtype) for w in weights]
    from_below = case.input.requires_grad

    def run() -> None:
        for x, w in zip(inputs, weights, strict=True):
            x @ w.t()
        for index, (x, w, dz) in enumerate(zip(inputs, weights, grads, strict=True)):
            dz.t() @ x
            if index or from_below:
                dz @ w

    return run


# ---- training steps --------------------------------------------------------------------------------------------------

IMAGE, NOISE = 784, 100


def networks(fused: bool) -> tuple[nn.Module, nn.Module]:
    """Return generator and discriminator of the MLP GAN, fused or stock, with the same initial values."""
    torch.manual_seed(0)
    generator = fused_gan.FusedMLP((NOISE, 256, 512, 1024, IMAGE), "relu", "tanh", device=DEVICE)
    discriminator = fused_gan.FusedMLP((IMAGE, 1024, 512, 256, 1), "leaky_relu", "identity", SLOPE, device=DEVICE)
    if fused:
        return generator, discriminator
    return tuple(stock_network(network).to(DEVICE) for network in (generator, discriminator))  # type: ignore[return-value]


def adam(network: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), rate, betas, fused=True, capturable=DEVICE == "cuda")


def gan_step(batch: int, fused: bool, compile_mode: str | None = None) -> Callable[[], object]:
    """Return a step of D, on real and fake together, and then of G; Adam is fused and capturable."""
    generator, discriminator = networks(fused)
    optimizers = [adam(network, 2e-4, (0.5, 0.999)) for network in (generator, discriminator)]
    real = torch.rand(batch, IMAGE, device=DEVICE) * 2 - 1
    target = torch.cat([torch.ones(batch, 1, device=DEVICE), torch.zeros(batch, 1, device=DEVICE)])
    of_generator, of_discriminator = list(generator.parameters()), list(discriminator.parameters())
    if compile_mode:
        generator, discriminator = (
            torch.compile(network, mode=compile_mode, dynamic=False) for network in (generator, discriminator)
        )

    def apply(optimizer: torch.optim.Optimizer, parameters: list[Tensor], loss: Tensor) -> None:
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()

    def step() -> None:
        if compile_mode:  # otherwise each call begins a new iteration, and the next graph overwrites its fakes
            torch.compiler.cudagraph_mark_step_begin()
        fake = generator(torch.randn(batch, NOISE, device=DEVICE))
        scores = discriminator(torch.cat([real, fake.detach()]))
        apply(optimizers[1], of_discriminator, F.binary_cross_entropy_with_logits(scores, target))
        scores = discriminator(fake)
        apply(optimizers[0], of_generator, F.binary_cross_entropy_with_logits(scores, target[:batch]))

    return step


def critic_step(batch: int, fused: bool) -> Callable[[], object]:
    """Return a step of a WGAN-GP critic, whose gradient penalty needs second derivatives."""
    _, critic = networks(fused)
    optimizer = torch.optim.Adam(
        critic.parameters(), lr=1e-4, betas=(0.0, 0.9), fused=True, capturable=DEVICE == "cuda"
    )
    real, fake = (torch.rand(batch, IMAGE, device=DEVICE) * 2 - 1 for _ in range(2))
    parameters = list(critic.parameters())

    def step() -> None:
        share = torch.rand(batch, 1, device=DEVICE)
        between = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        optimizer.step()

    return step


def step_flops(make: Callable[..., object], batch: int) -> int:
    """Return the floating point operations of the products in one of the steps above."""
    generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks(True))
    return 2 * batch * (3 * generator + 8 * discriminator if make is gan_step else 12 * discriminator)


def step_case(name: str, batch: int, make: Callable[[int, bool], Callable[[], object]], precision: Precision) -> Case:
    def variants(modes: tuple[str, ...]) -> dict[str, Calls]:
        found: dict[str, Calls] = {"fused_gan": [make(batch, True)], "eager": [make(batch, False)]}
        if make is gan_step:
            found |= {f"compile {mode}": [gan_step(batch, False, mode)] for mode in modes}
        return found

    return Case(f"{name}, batch {batch}, {precision.name}", precision, step_flops(make, batch), variants)


def trainer_case(batch: int, precision: Precision) -> Case:
    """Return the case of `fused-gan train`'s step of the MLP GAN: as a CUDA graph, without, and by stock's loop."""

    def variants(modes: tuple[str, ...]) -> dict[str, Calls]:
        from fused_gan.data import ImageData
        from fused_gan.training import GANTraining, build_system

        data = ImageData(torch.randint(256, (1000, 1, 28, 28), dtype=torch.uint8), None)

        def step(cuda_graph: Literal["auto", "off"]) -> Callable[[], object]:
            config = GANTraining(batch_size=batch, instance_noise=0, steps=10**9, cuda_graph=cuda_graph)
            return build_system(MLPGANConfig(), config, data, torch.device(DEVICE)).step

        found: dict[str, Calls] = {"fused_gan": [step("auto")], "without graph": [step("off")]}
        found["eager"] = [gan_step(batch, False)]
        return found | {f"compile {mode}": [gan_step(batch, False, mode)] for mode in modes}

    flops = step_flops(gan_step, batch)
    return Case(f"trainer's step, mlp-gan, batch {batch}, {precision.name}", precision, flops, variants, False)


# ---- the sections ----------------------------------------------------------------------------------------------------


def layers() -> Iterator[Case]:
    for precision in PRECISIONS:
        for batch in (64, 1024, 8192):
            for layer in (*LAYERS, *WIDE_LAYERS):
                yield layer_forward(layer, batch, precision)


def chains() -> Iterator[Case]:
    for precision in PRECISIONS:
        for batch in (64, 1024, 8192):
            for chain in (*CHAINS, *WIDE_CHAINS):
                yield chain_training(chain, batch, precision)


def steps() -> Iterator[Case]:
    for precision in (PRECISIONS[1], PRECISIONS[2]):
        for batch in (64, 256, 1024):
            yield step_case("MLP GAN step", batch, gan_step, precision)
            yield step_case("WGAN-GP critic step", batch, critic_step, precision)
            yield trainer_case(batch, precision)


SECTIONS = {"layers": layers, "chains": chains, "steps": steps}
