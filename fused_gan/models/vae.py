"""What the VAEs share: an encoder that returns mean and variance, a decoder, and the way between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fused_gan.activations import ACTIVATIONS


class VAENetwork(nn.Module):
    """Encoder and decoder.

    The decoder ends before its output activation, as Bernoulli likelihoods are computed on logits; `decode` applies it.

    Args:
        encoder: images (B, C, H, W) to (B, 2 z_dim): μ, then log σ².
        decoder: latents (B, z_dim) to what becomes images (B, C, H, W) through the output activation.
        output_activation: its name.
        negative_slope: of leaky_relu.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, output_activation: str, negative_slope: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.output_activation = output_activation
        self.output = ACTIVATIONS[output_activation].module(negative_slope)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ² of q(z | x), each (B, z_dim)."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, C, H, W) of latents (B, z_dim): the mean of p(x | z)."""
        images: Tensor = self.output(self.decoder(latents))
        return images

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One latent z = μ + σ ε for each image, decoded.

        Args:
            images: (B, C, H, W).
            noise: ε, (B, z_dim) from N(0, 1).

        Returns:
            The decoder's output before its activation (B, C, H, W), μ and log σ² (B, z_dim).
        """
        mean, log_variance = self.encode(images)
        latents = torch.addcmul(mean, torch.exp(log_variance / 2), noise)
        return self.decoder(latents), mean, log_variance
