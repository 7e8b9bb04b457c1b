"""The conditional GAN: both networks get the class (Mirza and Osindero, Conditional Generative Adversarial Nets, 2014).

noise (B, z_dim), labels (B,) → generator → images (B, C, H, W), labels (B,) → discriminator → logits (B, 1)

A label is embedded, and concatenated with the noise or with the pixels. The rest is as in `mlp_gan`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fused_gan.models.checks import require_positive
from fused_gan.models.mlp_gan import MLPGANConfig
from fused_gan.nn import FusedSequential
from fused_gan.nn.mlp import dense


@dataclass(frozen=True)
class CGANConfig(MLPGANConfig):
    """Sizes and activations of both networks.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    conditional: ClassVar[bool] = True

    label_dim: int = 16
    """Length of the vector that a class label becomes, in each network its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "label_dim")

    def build_generator(self, image_shape: Sequence[int], classes: int = 10) -> nn.Module:
        """Return a generator with float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W).
            classes: number of classes; labels are 0 … classes − 1.

        Returns:
            A module from noise (B, z_dim) and labels (B,) int64 to images (B, C, H, W) in `value_range`.
        """
        widths = (self.z_dim + self.label_dim, *self.generator_widths, math.prod(image_shape))
        layers = dense(widths, self.activation, self.output_activation, self.negative_slope)
        return Conditional(FusedSequential(*layers, nn.Unflatten(1, tuple(image_shape))), classes, self.label_dim)

    def build_discriminator(self, image_shape: Sequence[int], classes: int = 10) -> nn.Module:
        """Return a discriminator with float32 weights from torch's default random stream.

        Args:
            image_shape: (C, H, W).
            classes: number of classes.

        Returns:
            A module from images (B, C, H, W) and labels (B,) int64 to logits (B, 1).
        """
        widths = (math.prod(image_shape) + self.label_dim, *self.discriminator_widths, 1)
        layers = dense(widths, self.discriminator_activation, "identity", self.negative_slope)
        return Conditional(FusedSequential(*layers), classes, self.label_dim)


class Conditional(nn.Module):
    """Runs a network on its input, flattened to (B, n), concatenated with an embedding of the label.

    Args:
        network: takes inputs of (B, n + label_dim).
        classes: number of labels.
        label_dim: length of the embedding.
    """

    def __init__(self, network: nn.Module, classes: int, label_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, label_dim)
        self.network = network

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        output: Tensor = self.network(torch.cat((input.flatten(1), self.embedding(labels)), 1))
        return output
