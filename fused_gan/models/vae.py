"""The network of every VAE, an encoder to mean and variance and a decoder, and the likelihood of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fused_gan.base.seeds import stream_seed
from fused_gan.base.torch_state import measuring
from fused_gan.models.inference import evaluating
from fused_gan.models.losses import bernoulli_nll, gaussian_nll, iwae_bound, kl_to_standard_normal
from fused_gan.ops.activations import make_module, values_of


class VAENetwork(nn.Module):
    """Encoder and decoder.

    The decoder ends before its output activation, as Bernoulli likelihoods are computed on logits. `decode` applies the
    activation.

    Args:
        encoder: images (B, C, H, W) to (B, 2 z_dim): μ, then log σ².
        decoder: latents (B, z_dim) to (B, C, H, W), which the output activation turns into images.
        output_activation: name of the output activation.
        negative_slope: slope of leaky_relu.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, output_activation: str, negative_slope: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.output_activation = output_activation
        self.output = make_module(output_activation, values_of(output_activation, negative_slope))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and log σ² of q(z | x), each (B, z_dim), of images (B, C, H, W)."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Return the mean of p(x | z), images (B, C, H, W), of latents (B, z_dim)."""
        images: Tensor = self.output(self.decoder(latents))
        return images

    def images(self, noise: Tensor) -> Tensor:
        """Return images (B, C, H, W) decoded from noise (B, z_dim)."""
        return self.decode(noise)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode images (B, C, H, W) through the mean of q(z | x)."""
        return self.decode(self.encode(images)[0])

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one latent z = μ + σ ε for each image.

        Args:
            images: (B, C, H, W).
            noise: ε, (B, z_dim) from N(0, 1).

        Returns:
            The decoder's output before its activation (B, C, H, W), μ and log σ² (B, z_dim).
        """
        mean, log_variance = self.encode(images)
        latents = torch.addcmul(mean, torch.exp(log_variance / 2), noise)
        return self.decoder(latents), mean, log_variance


@dataclass(frozen=True)
class VAELikelihood:
    """The likelihood p(x | z) of a VAE, both terms of the ELBO, and the IWAE bound.

    Except for `nll`, the methods compute no gradients, and run the network in evaluation mode.

    Attributes:
        network: the VAE.
        kind: "bernoulli" takes pixels as probabilities, "gaussian" as means of normal distributions.
        deviation: standard deviation of the normal distributions.
    """

    network: VAENetwork
    kind: Literal["bernoulli", "gaussian"]
    deviation: float

    def nll(self, decoded: Tensor, images: Tensor) -> Tensor:
        """Return −log p(x | z) in nats, (B,), summed over pixels.

        Args:
            decoded: the decoder's output before its activation, (B, C, H, W).
            images: (B, C, H, W) in the value range.
        """
        if self.kind == "bernoulli":
            return bernoulli_nll(decoded, images)
        return gaussian_nll(self.network.output(decoded), images, self.deviation)

    @measuring()
    def elbo_terms(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two terms of the negative ELBO: −log p(x | z), (B,), and the KL of each dimension, (B, z_dim).

        Args:
            images: (B, C, H, W) in the value range, on the network's device.
            noise: ε of one latent for each image, (B, z_dim).
        """
        with evaluating(self.network):
            decoded, mean, log_variance = self.network(images, noise)
            return self.nll(decoded, images), kl_to_standard_normal(mean, log_variance)

    @measuring()
    def iwae(self, images: Tensor, k: int, seed: int = 0) -> Tensor:
        """Return the IWAE-k bound on log p(x), in nats, (B,). Pixels are taken as they are, not binarised.

        Source: Burda et al., Importance Weighted Autoencoders, 2016.

        Args:
            images: (B, C, H, W) in the value range, on the network's device.
            k: latents drawn for each image.
            seed: seed of these latents.
        """
        random = torch.Generator().manual_seed(stream_seed(seed, "iwae"))
        with evaluating(self.network):
            mean, log_variance = self.network.encode(images)
            log_weights = []
            for _ in range(k):
                noise = torch.randn(mean.shape, generator=random).to(mean)
                latents = torch.addcmul(mean, torch.exp(log_variance / 2), noise)
                nll = self.nll(self.network.decoder(latents), images)
                # log p(z) − log q(z | x); the constants of both normal densities cancel.
                log_weights.append((noise.square() + log_variance - latents.square()).sum(1) / 2 - nll)
            return iwae_bound(torch.stack(log_weights))
