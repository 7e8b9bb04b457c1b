"""Parts of the networks: convolutions with their activation, padding and cropping."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fused_gan.ops.activations import make_module, values_of


def halving(inputs: int, outputs: int, activation: str, slope: float, normalised: bool) -> Iterator[nn.Module]:
    """Yield Conv2d(4, 2, 1), which halves height and width, BatchNorm if `normalised`, and the activation."""
    yield nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not normalised)  # BatchNorm would subtract a bias
    if normalised:
        yield nn.BatchNorm2d(outputs)
    yield make_module(activation, values_of(activation, slope))


def doubling(inputs: int, outputs: int, activation: str, slope: float, normalised: bool) -> Iterator[nn.Module]:
    """Yield ConvTranspose2d(4, 2, 1), which doubles height and width, BatchNorm if `normalised`, and the activation."""
    yield nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=not normalised)
    if normalised:
        yield nn.BatchNorm2d(outputs)
    yield make_module(activation, values_of(activation, slope))


class PadTo(nn.Module):
    """Pads images with `value`, equally on all sides, to multiples of `multiple`: (B, C, H, W) to (B, C, H', W')."""

    def __init__(self, size: Sequence[int], multiple: int, value: float) -> None:
        super().__init__()
        self.size, self.padded, self.value = tuple(size), padded_size(size, multiple), value

    def forward(self, images: Tensor) -> Tensor:
        height, width = (grown - given for grown, given in zip(self.padded, self.size, strict=True))
        sides = (width // 2, width - width // 2, height // 2, height - height // 2)
        return F.pad(images, sides, value=self.value) if any(sides) else images

    def extra_repr(self) -> str:
        return f"{self.size} to {self.padded}, value={self.value}"


class CropTo(nn.Module):
    """Undoes `PadTo`: (B, C, H', W') to (B, C, H, W)."""

    def __init__(self, size: Sequence[int], multiple: int) -> None:
        super().__init__()
        self.size, self.padded = tuple(size), padded_size(size, multiple)

    def forward(self, images: Tensor) -> Tensor:
        (height, width), (padded_height, padded_width) = self.size, self.padded
        top, left = (padded_height - height) // 2, (padded_width - width) // 2
        return images[:, :, top : top + height, left : left + width]

    def extra_repr(self) -> str:
        return f"{self.padded} to {self.size}"


def padded_size(size: Sequence[int], multiple: int) -> tuple[int, int]:
    """Return height and width, each rounded up to a multiple of `multiple`."""
    height, width = (math.ceil(side / multiple) * multiple for side in size)
    return height, width
