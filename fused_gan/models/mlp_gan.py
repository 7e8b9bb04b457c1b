"""The MLP GAN: generator and discriminator are fully connected (Goodfellow et al., Generative Adversarial Nets, 2014).

noise (B, z_dim) → generator → images (B, C, H, W) → discriminator → logits (B, 1)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from fused_gan.activations import ACTIVATIONS
from fused_gan.errors import require
from fused_gan.nn import FusedLinear, FusedSequential


@dataclass(frozen=True)
class MLPGANConfig:
    """Sizes and activations of both networks.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    z_dim: int = 100
    """Length of the noise vector, drawn from N(0, 1)."""

    generator_widths: tuple[int, ...] = (256, 512, 1024)
    """Hidden layers of the generator, from the noise to the image."""

    discriminator_widths: tuple[int, ...] = (1024, 512, 256)
    """Hidden layers of the discriminator, from the image to the logit."""

    activation: str = "leaky_relu"
    """After each hidden layer of the generator: identity, relu, leaky_relu, tanh or sigmoid."""

    discriminator_activation: str = "leaky_relu"
    """After each hidden layer of the discriminator, from the same list. A leaky one leaves no unit without a gradient,
    and all that the generator learns comes through the discriminator's gradient."""

    output_activation: str = "tanh"
    """After the generator's last layer, from the same list. The data is scaled to its range: [0, 1] for sigmoid and
    relu, [-1, 1] for the others."""

    negative_slope: float = 0.2
    """Slope of leaky_relu below zero, at least 0."""

    def __post_init__(self) -> None:
        _require_positive("z_dim", self.z_dim)
        for name in ("generator_widths", "discriminator_widths"):
            widths = getattr(self, name)
            require(isinstance(widths, tuple), f"{name}: expected a tuple of integers, got {widths!r}")
            for width in widths:
                _require_positive(name, width)
        for name in ("activation", "discriminator_activation", "output_activation"):
            value = getattr(self, name)
            require(value in ACTIVATIONS, f"{name}: expected one of {', '.join(ACTIVATIONS)}, got {value!r}")
        require(
            isinstance(self.negative_slope, (int, float)) and 0 <= self.negative_slope < math.inf,
            f"negative_slope: expected a finite number of at least 0, got {self.negative_slope!r}",
        )

    @property
    def value_range(self) -> tuple[float, float]:
        """(low, high) of the generator's images, to which real images are scaled."""
        return (0.0, 1.0) if self.output_activation in ("sigmoid", "relu") else (-1.0, 1.0)

    def build_generator(self, image_shape: Sequence[int]) -> nn.Sequential:
        """A generator of float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W).

        Returns:
            A module from noise (B, z_dim) to images (B, C, H, W) in `value_range` (which only an unbounded
            `output_activation` can leave).
        """
        widths = (self.z_dim, *self.generator_widths, math.prod(image_shape))
        layers = self._stack(widths, self.activation, self.output_activation)
        return FusedSequential(*layers, nn.Unflatten(1, tuple(image_shape)))

    def build_discriminator(self, image_shape: Sequence[int]) -> nn.Sequential:
        """A discriminator of float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W).

        Returns:
            A module from images (B, C, H, W) to logits (B, 1): how likely real, before the sigmoid.
        """
        widths = (math.prod(image_shape), *self.discriminator_widths, 1)
        layers = self._stack(widths, self.discriminator_activation, "identity")
        return FusedSequential(nn.Flatten(1), *layers)

    def _stack(self, widths: Sequence[int], activation: str, output_activation: str) -> Iterator[nn.Module]:
        last = len(widths) - 2
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            chosen = output_activation if index == last else activation
            yield FusedLinear(inputs, outputs, activation=chosen, negative_slope=self.negative_slope)


def _require_positive(name: str, value: object) -> None:
    valid = isinstance(value, int) and not isinstance(value, bool) and value > 0
    require(valid, f"{name}: expected a positive integer, got {value!r}")
