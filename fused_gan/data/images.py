"""Value ranges, grids, PNG and NPZ files of images. Sample tensors are (N, C, H, W), pictures are uint8."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fused_gan.base.files import atomic_write, writing
from fused_gan.base.memory import memory_for
from fused_gan.data.image_data import same_class

Pixels = NDArray[np.uint8]


def room_for(count: int, height: int, width: int, channels: int) -> Pixels:
    """Return memory for resized images, (count, height, width, channels) uint8.

    All at once: a size that cannot be had is an error here, and not the end of the process half an hour later.

    Raises:
        OutOfMemory: there is not so much.
    """
    attempt = f"{count:,} images of {channels}×{height}×{width}"
    with memory_for(attempt, "a smaller --image-size takes less"):
        return np.empty((count, height, width, channels), np.uint8)


def from_uint8(images: Tensor, value_range: tuple[float, float], dtype: torch.dtype = torch.float32) -> Tensor:
    """Map uint8 pixels 0…255 linearly onto `value_range` (low, high). Shape and device stay; the dtype is `dtype`."""
    low, high = value_range
    return images.to(dtype).mul_((high - low) / 255).add_(low)


def to_uint8(images: Tensor, value_range: tuple[float, float]) -> Pixels:
    """Map values in `value_range` linearly onto 0…255, rounded to nearest, and clamp outside it. The shape stays."""
    low, high = value_range
    scaled = images.detach().float().sub(low).mul(255 / (high - low))
    pixels: Pixels = scaled.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels


def make_grid(images: Pixels, columns: int | None = None, padding: int = 2) -> Pixels:
    """Return one picture with the images laid out row by row.

    Args:
        images: (N, C, H, W) uint8 with N ≥ 1 and C 1 or 3.
        columns: images per row; None takes ⌈√N⌉, which makes the grid nearly square.
        padding: pixels of white around each image.

    Returns:
        (rows·(H + padding) + padding, columns·(W + padding) + padding, C) uint8.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cell_height, cell_width = height + padding, width + padding
    grid = np.full((rows * cell_height + padding, columns * cell_width + padding, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top = padding + index // columns * cell_height
        left = padding + index % columns * cell_width
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return grid


def save_grid(path: Path, images: Pixels, columns: int | None = None) -> None:
    """Write `images` (N, C, H, W) uint8 as a PNG grid. Images with sides under 64 pixels are enlarged 2, 3 … times."""
    picture = _picture(make_grid(images, columns))
    zoom = max(1, 64 // max(images.shape[2:]))
    if zoom > 1:
        # Nearest neighbour keeps every generated pixel visible as it is.
        picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    save_picture(path, picture)


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture as a PNG."""
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")


def save_pngs(folder: Path, images: Pixels, first: int) -> None:
    """Write each of `images` (N, C, H, W) uint8 as a PNG, `000000.png` …, numbered from `first`."""
    for index, image in enumerate(images, first):
        path = folder / f"{index:06d}.png"
        with writing(path):
            _picture(image.transpose(1, 2, 0)).save(path)


def save_samples(
    path: Path,
    chunks: Iterable[Pixels],
    count: int,
    seed: int,
    labels: NDArray[np.int64] | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Write images as an NPZ that `fused_gan.data.load` reads back, one chunk in memory at a time.

    Arrays in the file: `images` uint8 (N, H, W) for one channel, (N, H, W, 3) for three; `seed` int64 (); with
    labels, `labels` int64 (N,). If every class has an integer as its name, labels are these integers. If not, they are
    indices of the array `class_names`.

    Args:
        path: the file.
        chunks: uint8 (n, C, H, W) each, `count` images together, at least one.
        count: N.
        seed: the seed that the images were made with.
        labels: the classes of the images, (count,), as indices of `class_names`.
        class_names: the names of the classes; by default their numbers.
    """
    names = None
    if labels is not None and class_names:
        values = [same_class(name) for name in class_names]
        if all(isinstance(value, int) for value in values):
            labels = np.array(values)[labels]
        else:
            names = np.array(class_names)
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            for index, chunk in enumerate(chunks):
                pixels = chunk[:, 0] if chunk.shape[1] == 1 else chunk.transpose(0, 2, 3, 1)
                if index == 0:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *pixels.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(pixels).data)
        for name, array in (("seed", np.int64(seed)), ("labels", labels), ("class_names", names)):
            if array is not None:
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(array))


def _picture(pixels: Pixels) -> Image.Image:
    """Return (H, W, C) uint8 as a picture."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
