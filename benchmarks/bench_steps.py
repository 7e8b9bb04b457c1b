"""Training steps: a user's loop on fused networks, and the trainer's own step of the MLP GAN and the MLP VAE."""

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
from fused_gan.models import MLPGANConfig, MLPVAEConfig, VAENetwork
from fused_gan.models.losses import ADVERSARIAL, bernoulli_nll, kl_to_standard_normal, negative_elbo
from fused_gan.training import GANTraining, VAETraining, build_system

IMAGE = (1, 28, 28)
BETAS = (0.5, 0.999)

batches = pytest.mark.parametrize("batch", [64, 256])


def stock_networks() -> tuple[nn.Sequential, nn.Sequential]:
    """Return generator and discriminator in stock layers."""
    model = MLPGANConfig()
    return stock_network(model.build_generator(IMAGE)), stock_network(model.build_discriminator(IMAGE))


def flops_of(networks: tuple[nn.Module, nn.Module], batch: int, frozen: bool) -> int:
    """Return the floating point operations of a step.

    G has a forward and both gradients. D has these on real and fake images, then a forward and the input's gradient for
    G, and its weights' gradients too unless the weights are frozen.
    """
    weights = [sum(p.numel() for p in network.parameters()) for network in networks]
    return 2 * batch * (3 * weights[0] + (8 if frozen else 9) * weights[1])


def usual_loop(networks: tuple[nn.Module, nn.Module], real: Tensor, batch: int) -> Callable[[], None]:
    """Return the step of the tutorials: D scores real and fake apart, and G's update computes all gradients of D."""
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
    """Return the fastest step of stock PyTorch: D frozen while G learns, real and fake in one batch, fused Adam."""
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


def bare_loop(networks: tuple[nn.Module, nn.Module], real: Tensor, batch: int) -> Callable[[], None]:
    """Return the operations of the trainer's step alone.

    They are `best_loop` with the trainer's losses, their sums, and the average of the generator's weights.
    """
    generator, discriminator = networks
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=BETAS, fused=True) for net in networks]
    weights, frozen = list(generator.parameters()), list(discriminator.parameters())
    averaged = [weight.detach().clone() for weight in weights]
    loss, sums = ADVERSARIAL["non_saturating"], torch.zeros(2)

    def step() -> None:
        noise = torch.randn(batch, 100)
        images = real.index_select(0, torch.randint(len(real), (batch,)))
        fake = generator(noise)
        optimizers[1].zero_grad()
        of_discriminator = loss.discriminator(*discriminator(torch.cat((images, fake.detach()))).chunk(2))
        of_discriminator.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        for weight in frozen:
            weight.requires_grad_(False)
        of_generator = loss.generator(discriminator(fake))
        of_generator.backward()
        for weight in frozen:
            weight.requires_grad_(True)
        optimizers[0].step()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, weights, 1e-3)
            sums.add_(torch.stack((of_discriminator, of_generator)))

    return step


def vae_loop(encoder: nn.Module, decoder: nn.Module, real: Tensor, batch: int) -> Callable[[], None]:
    """Return the operations of the trainer's step of a VAE alone."""
    network = VAENetwork(encoder, decoder, "sigmoid", 0.01)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    sums = torch.zeros(3)

    def step() -> None:
        images = real.index_select(0, torch.randint(len(real), (batch,)))
        decoded, mean, log_variance = network(images, torch.randn(batch, MLPVAEConfig().z_dim))
        optimizer.zero_grad()
        reconstruction, kl = bernoulli_nll(decoded, images), kl_to_standard_normal(mean, log_variance)
        loss = negative_elbo(reconstruction, kl)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            sums.add_(torch.stack((loss, reconstruction.mean(), kl.sum(1).mean())))

    return step


@batches
def bench_loop(benchmark: Any, batch: int) -> None:
    """Time the tutorials' loop with networks that `fuse` has fused."""
    networks = stock_networks()
    fused = tuple(fused_gan.fuse(copy.deepcopy(network)) for network in networks)
    real = torch.rand(1000, *IMAGE) * 2 - 1
    variants = {"fused_gan": usual_loop(fused, real, batch), "eager": usual_loop(networks, real, batch)}
    side_by_side(benchmark, variants, flops_of(networks, batch, frozen=False))


@batches
def bench_trainer_step(benchmark: Any, batch: int) -> None:
    """Time the trainer's step of the MLP GAN.

    bare is the same step by hand, eager the best loop on stock layers, usual the tutorials' loop on stock layers.
    """
    model, pixels = MLPGANConfig(), torch.randint(256, (1000, *IMAGE), dtype=torch.uint8)
    config = GANTraining(batch_size=batch, instance_noise=0, steps=10**9)
    trainer = build_system(model, config, ImageData(pixels, None), torch.device("cpu"))
    real = pixels / 127.5 - 1
    variants = {
        "fused_gan": trainer.step,
        "bare": bare_loop((model.build_generator(IMAGE), model.build_discriminator(IMAGE)), real, batch),
        "eager": best_loop(stock_networks(), real, batch),
        "usual": usual_loop(stock_networks(), real, batch),
    }
    side_by_side(benchmark, variants, flops_of(stock_networks(), batch, frozen=True))


@batches
def bench_vae_trainer_step(benchmark: Any, batch: int) -> None:
    """Time the trainer's step of the MLP VAE. bare is the same step by hand, eager that step on stock layers."""
    model, pixels = MLPVAEConfig(), torch.randint(256, (1000, *IMAGE), dtype=torch.uint8)
    config = VAETraining(batch_size=batch, steps=10**9)
    trainer = build_system(model, config, ImageData(pixels, None), torch.device("cpu"))
    network, real = model.build(IMAGE), pixels / 255
    stock = stock_network(network.encoder), stock_network(network.decoder)
    variants = {
        "fused_gan": trainer.step,
        "bare": vae_loop(network.encoder, network.decoder, real, batch),
        "eager": vae_loop(*stock, real, batch),
    }
    # Forward and both gradients, except the gradient of the images.
    weights = sum(p.numel() for p in network.parameters())
    side_by_side(benchmark, variants, 2 * batch * (3 * weights - model.widths[0] * pixels[0].numel()))
