"""Training steps of the MLP GAN: somebody's loop on fused networks, and the trainer's own step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fused_gan
from benchmarks.cases import stock_network
from benchmarks.side_by_side import side_by_side
from fused_gan.data import ImageData
from fused_gan.models import MLPGANConfig
from fused_gan.training import GANTraining, build_system

IMAGE = (1, 28, 28)
BETAS = (0.5, 0.999)

batches = pytest.mark.parametrize("batch", [64, 256])


def stock_networks() -> tuple[nn.Sequential, nn.Sequential]:
    """Generator and discriminator in stock layers."""
    model = MLPGANConfig()
    return stock_network(model.build_generator(IMAGE)), stock_network(model.build_discriminator(IMAGE))


def flops_of(networks: tuple[nn.Module, nn.Module], batch: int, frozen: bool) -> int:
    """G: forward and both gradients. D: that on real and fake, then forward and the input's gradient for G, and its
    weights' gradients unless they are frozen then."""
    weights = [sum(p.numel() for p in network.parameters()) for network in networks]
    return 2 * batch * (3 * weights[0] + (8 if frozen else 9) * weights[1])


def usual_loop(networks: tuple[nn.Module, nn.Module], real: Tensor, batch: int) -> Callable[[], None]:
    """The step of the tutorials: real and fake scored one by one, every gradient of D computed for G's sake."""
    generator, discriminator = networks
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=BETAS) for net in networks]
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


def best_loop(networks: tuple[nn.Module, nn.Module], real: Tensor, batch: int) -> Callable[[], None]:
    """What stock PyTorch can do: D frozen while G learns, real and fake in one batch, fused Adam."""
    generator, discriminator = networks
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=BETAS, fused=True) for net in networks]
    targets, ones = torch.cat([torch.ones(batch, 1), torch.zeros(batch, 1)]), torch.ones(batch, 1)

    def step() -> None:
        images = real[torch.randint(len(real), (batch,))]
        fake = generator(torch.randn(batch, 100))
        optimizers[1].zero_grad()
        both = torch.cat([images, fake.detach()])
        (2 * F.binary_cross_entropy_with_logits(discriminator(both), targets)).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        discriminator.requires_grad_(False)
        F.binary_cross_entropy_with_logits(discriminator(fake), ones).backward()
        discriminator.requires_grad_(True)
        optimizers[0].step()

    return step


@batches
def bench_loop(benchmark: Any, batch: int) -> None:
    """The tutorials' loop, its networks fused by one line."""
    networks = stock_networks()
    fused = tuple(fused_gan.fuse(copy.deepcopy(network)) for network in networks)
    real = torch.rand(1000, *IMAGE) * 2 - 1
    variants = {"fused_gan": usual_loop(fused, real, batch), "eager": usual_loop(networks, real, batch)}
    side_by_side(benchmark, variants, flops_of(networks, batch, frozen=False))


@batches
def bench_trainer_step(benchmark: Any, batch: int) -> None:
    """eager: the best loop on stock layers. usual: the tutorials' loop on stock layers."""
    pixels = torch.randint(256, (1000, *IMAGE), dtype=torch.uint8)
    config = GANTraining(batch_size=batch, instance_noise=0, steps=10**9)
    trainer = build_system(MLPGANConfig(), config, ImageData(pixels, None), torch.device("cpu"))
    real = pixels / 127.5 - 1
    variants = {
        "fused_gan": trainer.step,
        "eager": best_loop(stock_networks(), real, batch),
        "usual": usual_loop(stock_networks(), real, batch),
    }
    side_by_side(benchmark, variants, flops_of(stock_networks(), batch, frozen=True))
