"""The variational autoencoder of fully connected layers (Kingma and Welling, Auto-Encoding Variational Bayes, 2014).

images (B, C, H, W) → encoder → μ, log σ² (B, z_dim) each;  z = μ + σ ε → decoder → images (B, C, H, W)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fused_gan.base.field_types import settle
from fused_gan.models.checks import range_of, require_activations, require_positive, require_slope, require_widths
from fused_gan.models.vae import VAENetwork
from fused_gan.nn import FusedSequential
from fused_gan.nn.mlp import dense


@dataclass(frozen=True)
class MLPVAEConfig:
    """Sizes and activations of encoder and decoder.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    conditional: ClassVar[bool] = False
    sampling_network: ClassVar[str] = "vae"  # its name in a checkpoint

    z_dim: int = 16
    """Latent dimensions. Those that do not pay for their KL stay unused."""

    widths: tuple[int, ...] = (128, 64, 32)
    """Hidden layers of the encoder, from the image to the latent; the decoder has them the other way round."""

    activation: str = "relu"
    """After each hidden layer: identity, relu, leaky_relu, tanh, sigmoid, relu6, hardtanh, hardsigmoid, elu, selu,
    celu, softplus, gelu, gelu_tanh, silu or mish."""

    output_activation: str = "sigmoid"
    """After the decoder's last layer, from the same list. The data is scaled to its range: [-1, 1] for identity,
    leaky_relu, tanh, hardtanh, elu, selu and celu, [0, 1] for the others, which do not reach -1."""

    negative_slope: float = 0.01
    """Slope of leaky_relu below zero, at least 0."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "z_dim")
        require_widths(self, "widths")
        require_activations(self, "activation", "output_activation")
        require_slope(self)

    @property
    def value_range(self) -> tuple[float, float]:
        """(low, high) of the decoder's images, to which real images are scaled."""
        return range_of(self.output_activation)

    def build(self, image_shape: Sequence[int]) -> VAENetwork:
        """Return encoder and decoder for images (C, H, W), with float32 weights from torch's default random stream."""
        pixels, slope = math.prod(image_shape), self.negative_slope
        encoder = dense((pixels, *self.widths, 2 * self.z_dim), self.activation, "identity", slope)
        decoder = dense((self.z_dim, *self.widths[::-1], pixels), self.activation, "identity", slope)
        return VAENetwork(
            FusedSequential(nn.Flatten(1), *encoder),
            FusedSequential(*decoder, nn.Unflatten(1, tuple(image_shape))),
            self.output_activation,
            slope,
        )
