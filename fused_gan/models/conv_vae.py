"""The convolutional VAE: `mlp_vae` with a convolutional encoder and the mirrored decoder.

images (B, C, H, W) → three times halved, w, 2w, 4w channels → Linear → μ, log σ² (B, z_dim)
z (B, z_dim) → Linear → (B, 4w, H'/8, W'/8) → three times doubled → images (B, C, H, W)

H' and W' are H and W rounded up to multiples of 8. The encoder pads and the decoder crops by the same margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fused_gan.base.field_types import settle
from fused_gan.models.checks import range_of, require_activations, require_positive, require_slope
from fused_gan.models.layers import CropTo, PadTo, doubling, halving, padded_size
from fused_gan.models.vae import VAENetwork
from fused_gan.nn import FusedSequential
from fused_gan.ops.activations import make_module, values_of

MULTIPLE = 8  # three layers, each of which doubles or halves


@dataclass(frozen=True)
class ConvVAEConfig:
    """Sizes and activations of encoder and decoder.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    conditional: ClassVar[bool] = False
    sampling_network: ClassVar[str] = "vae"  # its name in a checkpoint

    z_dim: int = 16
    """Latent dimensions. Those that do not pay for their KL stay unused."""

    width: int = 32
    """Channels at full resolution; the layers have this, twice and four times as many."""

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
        require_positive(self, "z_dim", "width")
        require_activations(self, "activation", "output_activation")
        require_slope(self)

    @property
    def value_range(self) -> tuple[float, float]:
        """(low, high) of the decoder's images, to which real images are scaled."""
        return range_of(self.output_activation)

    def build(self, image_shape: Sequence[int]) -> VAENetwork:
        """Return encoder and decoder for images (C, H, W), with float32 weights from torch's default random stream."""
        channels, *size = image_shape
        height, width = (side // MULTIPLE for side in padded_size(size, MULTIPLE))
        wide, kind, slope = self.width, self.activation, self.negative_slope
        features = 4 * wide * height * width
        encoder = FusedSequential(
            PadTo(size, MULTIPLE, self.value_range[0]),
            *halving(channels, wide, kind, slope, normalised=False),
            *halving(wide, 2 * wide, kind, slope, normalised=False),
            *halving(2 * wide, 4 * wide, kind, slope, normalised=False),
            nn.Flatten(1),
            nn.Linear(features, 2 * self.z_dim),
        )
        decoder = FusedSequential(
            nn.Linear(self.z_dim, features),
            make_module(kind, values_of(kind, slope)),
            nn.Unflatten(1, (4 * wide, height, width)),
            *doubling(4 * wide, 2 * wide, kind, slope, normalised=False),
            *doubling(2 * wide, wide, kind, slope, normalised=False),
            nn.ConvTranspose2d(wide, channels, 4, 2, 1),
            CropTo(size, MULTIPLE),
        )
        return VAENetwork(encoder, decoder, self.output_activation, slope)
