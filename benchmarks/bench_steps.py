"""One training step of the MLP GAN: networks that run fused against the same networks in stock layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.side_by_side import side_by_side
from fused_gan import reference
from fused_gan.models import MLPGANConfig
from fused_gan.training import GAN, TrainingConfig

IMAGE = (1, 28, 28)


def stock(network: nn.Module) -> nn.Sequential:
    """The same network in stock layers, with a copy of its weights."""
    layers = (
        reference.stock_layers(layer) if isinstance(layer, nn.Linear) else [layer]
        for layer in copy.deepcopy(network).children()
    )
    return nn.Sequential(*(part for group in layers for part in group))


def usual_loop(generator: nn.Module, discriminator: nn.Module, real: Tensor, batch: int) -> Callable[[], None]:
    """The step of the tutorials: real and fake scored one by one, every gradient of D computed for G's sake."""
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (generator, discriminator)]
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)

    def step() -> None:
        images = real[torch.randint(len(real), (batch,))]
        fake = generator(torch.randn(batch, 100))
        optimizers[1].zero_grad()
        loss = F.binary_cross_entropy_with_logits(discriminator(images), ones)
        loss = loss + F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
        loss.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        F.binary_cross_entropy_with_logits(discriminator(fake), ones).backward()
        optimizers[0].step()

    return step


@pytest.mark.parametrize("batch", [64, 256])
def bench_gan_step(benchmark: Any, batch: int) -> None:
    """eager: the same trainer on stock layers. usual: the usual loop on stock layers."""
    config = TrainingConfig(batch_size=batch, instance_noise=0, steps=10**9)
    model = MLPGANConfig()
    networks = model.build_generator(IMAGE), model.build_discriminator(IMAGE)
    real = torch.rand(1000, *IMAGE) * 2 - 1
    # G: forward and both gradients. D: that on real and fake, then forward and the input's gradient for G.
    weights = [sum(p.numel() for p in network.parameters()) for network in networks]
    flops = 2 * batch * (3 * weights[0] + 8 * weights[1])
    variants = {
        "fused_gan": GAN(*networks, real, model.z_dim, config).step,
        "eager": GAN(*map(stock, networks), real, model.z_dim, config).step,
        "usual": usual_loop(*map(stock, networks), real, batch),
    }
    side_by_side(benchmark, variants, flops)
