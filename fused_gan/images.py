"""Images as files: value ranges, grids, PNG and NPZ. Sample tensors are (N, C, H, W), pictures are uint8."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fused_gan.files import atomic_write

Pixels = NDArray[np.uint8]


def from_uint8(images: Tensor, value_range: tuple[float, float], dtype: torch.dtype = torch.float32) -> Tensor:
    """Map uint8 pixels 0…255 linearly onto `value_range` (low, high). Same shape, same device, floating `dtype`."""
    low, high = value_range
    return images.to(dtype).mul_((high - low) / 255).add_(low)


def to_uint8(images: Tensor, value_range: tuple[float, float]) -> Pixels:
    """Map values in `value_range` linearly onto 0…255, rounded to nearest, clamped outside it. Same shape."""
    low, high = value_range
    scaled = images.detach().float().sub(low).mul(255 / (high - low))
    pixels: Pixels = scaled.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels


def make_grid(images: Pixels, padding: int = 2) -> Pixels:
    """Lay images out row by row in a grid as near to square as it can be.

    Args:
        images: (N, C, H, W) uint8 with N ≥ 1 and C 1 or 3.
        padding: pixels of white around each image.

    Returns:
        (rows·(H + padding) + padding, columns·(W + padding) + padding, C) uint8, columns = ⌈√N⌉.
    """
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cell_height, cell_width = height + padding, width + padding
    grid = np.full((rows * cell_height + padding, columns * cell_width + padding, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top = padding + index // columns * cell_height
        left = padding + index % columns * cell_width
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return grid


def save_grid(path: Path, images: Pixels) -> None:
    """Write `images` (N, C, H, W) uint8 as one PNG grid; images under 64 pixels a side are enlarged 2, 3 … times."""
    grid = make_grid(images)
    picture = Image.fromarray(grid[:, :, 0] if grid.shape[2] == 1 else grid)
    zoom = max(1, 64 // max(images.shape[2:]))
    if zoom > 1:
        # Nearest, so that every generated pixel stays visible as it is.
        picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")


def save_samples(path: Path, images: Pixels, seed: int) -> None:
    """Write `images` (N, C, H, W) uint8 as an NPZ that `fused_gan.data.load` reads back.

    Arrays in the file: `images` uint8 (N, H, W) for one channel, (N, H, W, 3) for three; `seed` int64 ().
    """
    pixels = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=pixels, seed=np.int64(seed))
