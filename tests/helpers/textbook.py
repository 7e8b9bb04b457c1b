"""Training steps as the textbooks write them, in stock layers of any dtype, and once more by formula in numpy's
longdouble. All take the random numbers that the trainer draws, so that all take the same steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fused_gan.base.seeds import stream_seed
from fused_gan.nn.layers import Layer, group_layers
from fused_gan.ops.activations import ACTIVATIONS
from fused_gan.training import GAN, VAE
from helpers.tolerance import wide, wide_activation

Arrays = list[np.ndarray]


class Draws:
    """The random numbers of each step, and the images that they choose, in the order and the dtype of the trainer's."""

    def __init__(self, system: GAN | VAE) -> None:
        self.real, self.z_dim, self.config = (
            system.data.take(torch.arange(len(system.data))),
            system.z_dim,
            system.config,
        )
        self.random = torch.Generator().manual_seed(stream_seed(self.config.seed, "training"))
        self.next = self._of_gan if isinstance(system, GAN) else self._of_vae
        self.done = 0

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random, dtype=self.real.dtype)

    def _images(self) -> Tensor:
        return self.real[torch.randint(len(self.real), (self.config.batch_size,), generator=self.random)]

    def _of_gan(self) -> list[Tensor]:
        """Noise; real images; the instance noise of real images, of fakes, and of the same fakes for the generator."""
        left = self.config.instance_noise * (1 - self.done / self.config.steps)
        noise, real = self._normal(self.config.batch_size, self.z_dim), self._images()
        instance_noise, again = self._normal(2, *real.shape) * left, self._normal(*real.shape) * left
        self.done += 1
        return [noise, real, *instance_noise, again]

    def _of_vae(self) -> list[Tensor]:
        """Images and noise."""
        return [self._images(), self._normal(self.config.batch_size, self.z_dim)]


def parts(system: GAN | VAE) -> dict[str, nn.Module]:
    """The two networks by name."""
    if isinstance(system, GAN):
        return dict(system.networks)
    return {"encoder": system.network.encoder, "decoder": system.network.decoder}


class Trainer:
    """The trainer itself, which draws for itself."""

    def __init__(self, system: GAN | VAE) -> None:
        self.system, self.networks = system, list(parts(system).values())

    def step(self, draws: Sequence[Tensor]) -> list[float]:
        self.system.step()
        return list(self.system.mean_losses().values())


def in_stock_layers(network: nn.Module, dtype: torch.dtype) -> nn.Sequential:
    """A copy in stock layers."""
    return nn.Sequential(*copy.deepcopy(network).children()).to(dtype)


class TextbookGAN:
    """Three passes of D, two targets, plain Adam."""

    def __init__(self, gan: GAN, dtype: torch.dtype) -> None:
        self.networks = [in_stock_layers(network, dtype) for network in parts(gan).values()]
        config = gan.config
        self.adams = [torch.optim.Adam(net.parameters(), config.lr, config.betas) for net in self.networks]
        self.dtype = dtype

    def step(self, draws: Sequence[Tensor]) -> list[float]:
        noise, real, of_real, of_fake, again = (tensor.to(self.dtype) for tensor in draws)
        (generator, discriminator), (adam_g, adam_d) = self.networks, self.adams
        ones, zeros = (value(len(real), 1, dtype=self.dtype) for value in (torch.ones, torch.zeros))

        fake = generator(noise)
        d_loss = F.binary_cross_entropy_with_logits(discriminator(real + of_real), ones)
        d_loss = d_loss + F.binary_cross_entropy_with_logits(discriminator(fake.detach() + of_fake), zeros)
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()

        g_loss = F.binary_cross_entropy_with_logits(discriminator(fake + again), ones)
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        return [d_loss.item(), g_loss.item()]


class TextbookVAE:
    """Kingma and Welling's step, its terms by torch.distributions, and plain Adam."""

    def __init__(self, vae: VAE, dtype: torch.dtype) -> None:
        self.networks = [in_stock_layers(network, dtype) for network in parts(vae).values()]
        self.config, self.dtype = vae.objective, dtype
        parameters = [parameter for network in self.networks for parameter in network.parameters()]
        self.adam = torch.optim.Adam(parameters, self.config.lr, self.config.betas)

    def step(self, draws: Sequence[Tensor]) -> list[float]:
        images, noise = (tensor.to(self.dtype) for tensor in draws)
        encoder, decoder = self.networks
        mean, log_variance = encoder(images).chunk(2, dim=1)
        q = torch.distributions.Normal(mean, log_variance.mul(0.5).exp())
        decoded = decoder(q.mean + q.stddev * noise)
        if self.config.likelihood == "bernoulli":
            nll = F.binary_cross_entropy_with_logits(decoded, images, reduction="sum") / len(images)
        else:
            p = torch.distributions.Normal(decoded.sigmoid(), self.config.deviation)
            nll = -p.log_prob(images).sum() / len(images)
        prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        kl = torch.distributions.kl_divergence(q, prior).sum() / len(images)
        loss = nll + self.config.beta * kl
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return [loss.item(), nll.item(), kl.item()]


# ---- in longdouble --------------------------------------------------------------------------------------------------


class WideChain:
    """A chain of layers in longdouble, with its gradients and Adam by their formulas.

    Args:
        network: of Linear, activations behind them, and modules that only change shapes.
        config: of Adam.
    """

    def __init__(self, network: nn.Module, config: Any) -> None:
        items = group_layers(list(network.children()))
        self.layers = [layer for layer in items if isinstance(layer, Layer)]
        self._weights = [wide(tensor) for layer in self.layers for tensor in layer.linear.parameters()]
        self.moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in self._weights]
        self.config, self.updates = config, 0

    def parameters(self) -> Arrays:
        return self._weights

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """(B, …) to the output (B, n), and what `backward` needs: each layer's input and derivative."""
        kept = []
        x = x.reshape(len(x), -1)
        for index, layer in enumerate(self.layers):
            weight, bias = self._weights[2 * index : 2 * index + 2]
            parameters = dict(zip(ACTIVATIONS[layer.activation].parameters, layer.parameters, strict=True))
            y, derivative = wide_activation(layer.activation, x @ weight.T + bias, parameters)
            kept += [x, derivative]
            x = y
        return x, kept

    def backward(self, dy: np.ndarray, kept: Arrays) -> tuple[np.ndarray, Arrays]:
        """The gradient of the input, and those of all weights and biases."""
        gradients: Arrays = []
        for index in reversed(range(len(self.layers))):
            x, derivative = kept[2 * index : 2 * index + 2]
            dz = dy * derivative
            gradients = [dz.T @ x, dz.sum(0), *gradients]
            dy = dz @ self._weights[2 * index]
        return dy, gradients

    def update(self, gradients: Arrays) -> None:
        """Kingma and Ba, Adam (2015), algorithm 1."""
        self.updates += 1
        first, second = map(np.longdouble, self.config.betas)
        for weight, gradient, (mean, square) in zip(self._weights, gradients, self.moments, strict=True):
            mean[:] = first * mean + (1 - first) * gradient
            square[:] = second * square + (1 - second) * gradient**2
            scale = np.sqrt(square / (1 - second**self.updates)) + np.longdouble(1e-8)
            weight -= np.longdouble(self.config.lr) / (1 - first**self.updates) * mean / scale


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(np.longdouble(0), x)


class WideGAN:
    """`TextbookGAN` in longdouble."""

    def __init__(self, gan: GAN) -> None:
        self.networks = [WideChain(network, gan.config) for network in parts(gan).values()]

    def step(self, draws: Sequence[Tensor]) -> list[np.longdouble]:
        noise, real, of_real, of_fake, again = (wide(tensor).reshape(len(tensor), -1) for tensor in draws)
        generator, discriminator = self.networks
        fake, of_generator = generator.forward(noise)
        on_real, kept_real = discriminator.forward(real + of_real)
        on_fake, kept_fake = discriminator.forward(fake + of_fake)
        d_loss = softplus(-on_real).mean() + softplus(on_fake).mean()
        _, from_real = discriminator.backward(-sigmoid(-on_real) / len(real), kept_real)
        _, from_fake = discriminator.backward(sigmoid(on_fake) / len(real), kept_fake)
        discriminator.update([a + b for a, b in zip(from_real, from_fake, strict=True)])

        on_fake, kept_fake = discriminator.forward(fake + again)
        to_fake, _ = discriminator.backward(-sigmoid(-on_fake) / len(real), kept_fake)
        generator.update(generator.backward(to_fake, of_generator)[1])
        return [d_loss, softplus(-on_fake).mean()]


class WideVAE:
    """`TextbookVAE` in longdouble."""

    def __init__(self, vae: VAE) -> None:
        self.networks = [WideChain(network, vae.config) for network in parts(vae).values()]
        self.config = vae.objective

    def step(self, draws: Sequence[Tensor]) -> list[np.longdouble]:
        images, noise = (wide(tensor).reshape(len(tensor), -1) for tensor in draws)
        (encoder, decoder), count = self.networks, len(images)
        encoded, of_encoder = encoder.forward(images)
        mean, log_variance = np.split(encoded, 2, axis=1)
        deviation = np.exp(log_variance / 2)
        logits, of_decoder = decoder.forward(mean + deviation * noise)
        if self.config.likelihood == "bernoulli":
            nll, d_logits = softplus(logits) - images * logits, sigmoid(logits) - images
        else:
            y, sigma = sigmoid(logits), np.longdouble(self.config.deviation)
            nll = ((y - images) / sigma) ** 2 / 2 + np.log(sigma) + np.log(2 * np.longdouble(np.pi)) / 2
            d_logits = (y - images) / sigma**2 * y * (1 - y)
        kl = (mean**2 + deviation**2 - 1 - log_variance) / 2
        beta = np.longdouble(self.config.beta)
        d_latent, of_weights = decoder.backward(d_logits / count, of_decoder)
        d_mean = d_latent + beta * mean / count
        d_log_variance = d_latent * noise * deviation / 2 + beta * (deviation**2 - 1) / 2 / count
        _, of_encoder_weights = encoder.backward(np.concatenate([d_mean, d_log_variance], 1), of_encoder)
        encoder.update(of_encoder_weights)
        decoder.update(of_weights)
        return [(nll.sum() + beta * kl.sum()) / count, nll.sum() / count, kl.sum() / count]
