"""Generator and critic of the Wasserstein GANs (Arjovsky et al., 2017; Gulrajani et al., 2017).

They are the networks of `mlp_gan` or `dcgan`, with a critic without BatchNorm. The gradient penalty is computed per
image, and batch statistics would make the score of an image depend on the other images of its batch. A critic's score
is not the logit of a probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from fused_gan.base.errors import require
from fused_gan.models.checks import require_positive
from fused_gan.models.dcgan import DCGANConfig
from fused_gan.models.mlp_gan import MLPGANConfig


@dataclass(frozen=True)
class WGANConfig(MLPGANConfig):
    """Sizes and activations of both networks.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    network: Literal["mlp", "conv"] = "mlp"
    """mlp: fully connected, of the two lists of widths; conv: convolutional, of `width`."""

    width: int = 64
    """Channels at full resolution of the convolutional networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "width")
        require(self.network in ("mlp", "conv"), f"network: expected mlp or conv, got {self.network!r}")

    def build_generator(self, image_shape: Sequence[int], classes: int = 0) -> nn.Module:
        """Return a generator from noise (B, z_dim) to images (B, C, H, W) in `value_range`.

        The initial weights are those of `mlp_gan` or of `dcgan`.
        """
        if self.network == "mlp":
            return super().build_generator(image_shape)
        return self._convolutional().build_generator(image_shape)

    def build_discriminator(self, image_shape: Sequence[int], classes: int = 0) -> nn.Module:
        """Return a critic from images (B, C, H, W) to scores (B, 1), which scores each image by itself."""
        if self.network == "mlp":
            return super().build_discriminator(image_shape)
        return self._convolutional().build_discriminator(image_shape)

    def _convolutional(self) -> DCGANConfig:
        return DCGANConfig(
            self.z_dim,
            self.width,
            self.activation,
            self.discriminator_activation,
            self.output_activation,
            self.negative_slope,
            discriminator_batch_norm=False,
        )
