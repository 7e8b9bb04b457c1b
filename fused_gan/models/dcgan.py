"""The DCGAN: convolutional generator and discriminator (Radford et al., Unsupervised Representation Learning with Deep
Convolutional GANs, 2016).

noise (B, z_dim) → Linear → (B, 4w, H'/8, W'/8) → three times doubled → images (B, C, H, W)
images (B, C, H, W) → three times halved, w, 2w, 4w channels → Linear → logits (B, 1)

H' and W' are H and W rounded up to multiples of 8. D pads its images, and G crops its images, by the same margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fused_gan.base.errors import require
from fused_gan.base.field_types import settle
from fused_gan.models.checks import range_of, require_activations, require_positive, require_slope
from fused_gan.models.layers import CropTo, PadTo, doubling, halving, padded_size
from fused_gan.nn import FusedSequential
from fused_gan.ops.activations import make_module, values_of

MULTIPLE = 8  # three layers, each of which doubles or halves


@dataclass(frozen=True)
class DCGANConfig:
    """Sizes and activations of both networks.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    conditional: ClassVar[bool] = False  # whether both networks take class labels
    sampling_network: ClassVar[str] = "generator"  # its name in a checkpoint

    z_dim: int = 100
    """Length of the noise vector, drawn from N(0, 1)."""

    width: int = 64
    """Channels at full resolution; the layers have this, twice and four times as many."""

    activation: str = "relu"
    """After each hidden layer of the generator: identity, relu, leaky_relu, tanh, sigmoid, relu6, hardtanh,
    hardsigmoid, elu, selu, celu, softplus, gelu, gelu_tanh, silu or mish."""

    discriminator_activation: str = "leaky_relu"
    """After each hidden layer of the discriminator, from the same list."""

    output_activation: str = "tanh"
    """After the generator's last layer, from the same list. The data is scaled to its range: [-1, 1] for identity,
    leaky_relu, tanh, hardtanh, elu, selu and celu, [0, 1] for the others, which do not reach -1."""

    negative_slope: float = 0.2
    """Slope of leaky_relu below zero, at least 0."""

    discriminator_batch_norm: bool = True
    """BatchNorm on the last two convolutions of the discriminator. Without it each image is scored by itself, which
    the gradient penalty needs."""

    initial_deviation: float = 0.02
    """Standard deviation of the initial weights, N(0, 0.02) in the paper. 0 takes torch's own initial values."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "z_dim", "width")
        require_activations(self, "activation", "discriminator_activation", "output_activation")
        require_slope(self)
        require(
            0 <= self.initial_deviation < math.inf,
            f"initial_deviation: expected a finite number of at least 0, got {self.initial_deviation!r}",
        )

    @property
    def value_range(self) -> tuple[float, float]:
        """(low, high) of the generator's images, to which real images are scaled."""
        return range_of(self.output_activation)

    def build_generator(self, image_shape: Sequence[int], classes: int = 0) -> nn.Module:
        """Return a generator with float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W), H and W any.
            classes: not used, as this model is not conditional.

        Returns:
            A module from noise (B, z_dim) to images (B, C, H, W) in `value_range`.
        """
        channels, *size = image_shape
        height, width = (side // MULTIPLE for side in padded_size(size, MULTIPLE))
        wide, slope, kind = self.width, self.negative_slope, self.activation
        generator = FusedSequential(
            nn.Linear(self.z_dim, 4 * wide * height * width, bias=False),
            nn.Unflatten(1, (4 * wide, height, width)),
            *_normalised(4 * wide, kind, slope),
            *doubling(4 * wide, 2 * wide, kind, slope, normalised=True),
            *doubling(2 * wide, wide, kind, slope, normalised=True),
            *doubling(wide, channels, self.output_activation, slope, normalised=False),
            CropTo(size, MULTIPLE),
        )
        return _initialised(generator, self.initial_deviation)

    def build_discriminator(self, image_shape: Sequence[int], classes: int = 0) -> nn.Module:
        """Return a discriminator with float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W), H and W any.
            classes: not used, as this model is not conditional.

        Returns:
            A module from images (B, C, H, W) to logits (B, 1).
        """
        channels, *size = image_shape
        height, width = (side // MULTIPLE for side in padded_size(size, MULTIPLE))
        wide, slope, kind = self.width, self.negative_slope, self.discriminator_activation
        discriminator = FusedSequential(
            PadTo(size, MULTIPLE, self.value_range[0]),
            *halving(channels, wide, kind, slope, normalised=False),
            *halving(wide, 2 * wide, kind, slope, self.discriminator_batch_norm),
            *halving(2 * wide, 4 * wide, kind, slope, self.discriminator_batch_norm),
            nn.Flatten(1),
            nn.Linear(4 * wide * height * width, 1),
        )
        return _initialised(discriminator, self.initial_deviation)


def _normalised(channels: int, activation: str, slope: float) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), make_module(activation, values_of(activation, slope))]


def _initialised(network: nn.Module, deviation: float) -> nn.Module:
    """Draw weights from N(0, deviation), BatchNorm's from N(1, deviation); set biases to 0 (the paper, section 4)."""
    if deviation == 0:
        return network
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight, 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
