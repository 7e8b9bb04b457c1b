"""The classifier whose features are compared, a small convolutional network for images of one shape."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fused_gan.data.images import from_uint8
from fused_gan.models.layers import PadTo, halving
from fused_gan.nn import FusedSequential

VALUE_RANGE = (-1.0, 1.0)  # of the images that the network takes
WIDTHS = (16, 32, 64)  # channels of the convolutions, each of which halves the image
FEATURES = 64


class Classifier(nn.Module):
    """Maps images (B, C, H, W) by convolutions to features (B, features), and these to logits (B, classes).

    Args:
        image_shape: (C, H, W).
        classes: number of classes.
        widths: channels of the convolutions, each with BatchNorm and ReLU.
        features: length of the last hidden layer, whose output, after a ReLU, is the features.
    """

    def __init__(
        self, image_shape: Sequence[int], classes: int, widths: Sequence[int] = WIDTHS, features: int = FEATURES
    ) -> None:
        super().__init__()
        channels, *size = image_shape
        multiple = 2 ** len(widths)
        pad = PadTo(size, multiple, VALUE_RANGE[0])
        height, width = (side // multiple for side in pad.padded)
        layers: list[nn.Module] = [pad]
        for inputs, outputs in zip((channels, *widths), widths, strict=False):
            layers += halving(inputs, outputs, "relu", 0.0, normalised=True)
        flat = widths[-1] * height * width
        self.body = FusedSequential(*layers, nn.Flatten(1), nn.Linear(flat, features), nn.ReLU())
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits

    def scaled(self, images: Tensor) -> Tensor:
        """Scale uint8 images (B, C, H, W) on any device to the network's input, float32 in [-1, 1] on its device."""
        return from_uint8(images.to(self.head.weight.device), VALUE_RANGE)

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, features), at least 0, of uint8 images (B, C, H, W) on any device."""
        features: Tensor = self.body(self.scaled(images))
        return features
