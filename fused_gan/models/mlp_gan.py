"""The MLP GAN: generator and discriminator are fully connected (Goodfellow et al., Generative Adversarial Nets, 2014).

noise (B, z_dim) → generator → images (B, C, H, W) → discriminator → logits (B, 1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fused_gan.base.field_types import settle
from fused_gan.models.checks import range_of, require_activations, require_positive, require_slope, require_widths
from fused_gan.nn import FusedSequential
from fused_gan.nn.mlp import dense


@dataclass(frozen=True)
class MLPGANConfig:
    """Sizes and activations of both networks.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    conditional: ClassVar[bool] = False  # whether both networks take class labels
    sampling_network: ClassVar[str] = "generator"  # its name in a checkpoint

    z_dim: int = 100
    """Length of the noise vector, drawn from N(0, 1)."""

    generator_widths: tuple[int, ...] = (256, 512, 1024)
    """Hidden layers of the generator, from the noise to the image."""

    discriminator_widths: tuple[int, ...] = (1024, 512, 256)
    """Hidden layers of the discriminator, from the image to the logit."""

    activation: str = "leaky_relu"
    """After each hidden layer of the generator: identity, relu, leaky_relu, tanh, sigmoid, relu6, hardtanh,
    hardsigmoid, elu, selu, celu, softplus, gelu, gelu_tanh, silu or mish."""

    discriminator_activation: str = "leaky_relu"
    """After each hidden layer of the discriminator, from the same list. A leaky one leaves no unit without a gradient,
    and all that the generator learns comes through the discriminator's gradient."""

    output_activation: str = "tanh"
    """After the generator's last layer, from the same list. The data is scaled to its range: [-1, 1] for identity,
    leaky_relu, tanh, hardtanh, elu, selu and celu, [0, 1] for the others, which do not reach -1."""

    negative_slope: float = 0.2
    """Slope of leaky_relu below zero, at least 0."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "z_dim")
        require_widths(self, "generator_widths", "discriminator_widths")
        require_activations(self, "activation", "discriminator_activation", "output_activation")
        require_slope(self)

    @property
    def value_range(self) -> tuple[float, float]:
        """(low, high) of the generator's images, to which real images are scaled."""
        return range_of(self.output_activation)

    def build_generator(self, image_shape: Sequence[int], classes: int = 0) -> nn.Module:
        """Return a generator with float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W).
            classes: not used, as this model is not conditional.

        Returns:
            A module from noise (B, z_dim) to images (B, C, H, W) in `value_range` (which only an unbounded
            `output_activation` can leave).
        """
        widths = (self.z_dim, *self.generator_widths, math.prod(image_shape))
        layers = dense(widths, self.activation, self.output_activation, self.negative_slope)
        return FusedSequential(*layers, nn.Unflatten(1, tuple(image_shape)))

    def build_discriminator(self, image_shape: Sequence[int], classes: int = 0) -> nn.Module:
        """Return a discriminator with float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W).
            classes: not used, as this model is not conditional.

        Returns:
            A module from images (B, C, H, W) to logits (B, 1): how likely an image is real, before the sigmoid.
        """
        widths = (math.prod(image_shape), *self.discriminator_widths, 1)
        return FusedSequential(
            nn.Flatten(1), *dense(widths, self.discriminator_activation, "identity", self.negative_slope)
        )
