"""The command `fused-gan data`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from fused_gan.base.errors import require
from fused_gan.base.memory import memory_for
from fused_gan.cli.options import checked_file
from fused_gan.data import ImageData, load
from fused_gan.data.datasets import evenly_spaced
from fused_gan.data.images import Pixels, save_grid

COLUMNS = 10
MOST_ROWS = 32  # of classes; data with more is shown as it comes


@dataclass(frozen=True)
class Data:
    """Say what a training would read, without training: shape, values, classes, what is passed over and why.

    Writes one PNG grid of the images, with one row per class if there are 32 classes or fewer."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(name="path", metavar="PATH")]
    """A data set's name, a file or a folder, as for --data of a training."""

    image_size: int | None = None
    """Resize the images to this many pixels per side, as the training does."""

    channels: Literal[1, 3] | None = None
    """1 for grey images, 3 for RGB."""

    out: Path | None = None
    """File to write. An existing file is replaced. None takes data-NAME.png in the working folder."""

    def run(self) -> int:
        path = self.out or Path(f"data-{_name(self.source)}.png")
        folder = Path(os.path.expanduser(self.source)).resolve()
        require(
            folder not in path.resolve().parents,  # where it would be read as one more picture
            f"out: expected a file outside the folder of the data, got {path}; name one with --out",
        )
        checked_file(path)
        data = load(self.source, self.image_size, self.channels)
        count, channels, height, width = data.images.shape
        print(f"images: {count:,} of {channels}×{height}×{width} from {self.source}")
        pixels = data.images.numpy()
        print(f"values: {pixels.min()} … {pixels.max()}, mean {pixels.mean():.1f}")
        for line in data.darkness():
            print(line)
        print(f"classes: {len(data.class_names) or 'no labels'}")
        longest = max(map(len, data.class_names), default=0)
        for name, size in zip(data.class_names, data.class_sizes(), strict=True):
            print(f"  {name:{longest}}  {size:,}")
        print(f"passed over: {'' if data.passed_over else 'nothing'}".rstrip())
        for note in data.passed_over:
            print(f"  {note}")
        with memory_for(f"a grid of images of {channels}×{height}×{width}", "a smaller --image-size takes less"):
            save_grid(path, _shown(data), COLUMNS)
        print(f"grid: {path}")
        return 0


def _name(source: str) -> str:
    path = Path(os.path.expanduser(source)).absolute()
    if path.parent.is_file():  # a part of an .npz
        return f"{path.parent.stem}-{path.name}"
    return path.stem if path.is_file() else path.name


def _shown(data: ImageData) -> Pixels:
    """Return the images of the grid. A row is of one class, and ends in white where the class has fewer images."""
    images = data.images
    if data.labels is None or len(data.class_names) > MOST_ROWS:
        return images[evenly_spaced(COLUMNS**2, len(images))].numpy()
    rows = []
    for label in range(len(data.class_names)):
        of_class = images[torch.nonzero(data.labels == label)[:, 0]]
        row = np.full((COLUMNS, *images.shape[1:]), 255, np.uint8)
        chosen = evenly_spaced(COLUMNS, len(of_class))
        row[: len(chosen)] = of_class[chosen].numpy()
        rows.append(row)
    return np.concatenate(rows)
