"""Reads the IDX format of MNIST.

A file is big-endian. It holds a magic number 0x0000 08 dd (uint8, dd dimensions), the sizes, and the bytes.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fused_gan.base.errors import UserError, require

Bytes = NDArray[np.uint8]

_UINT8 = 0x08  # the format's code for unsigned byte; published images all have this code
_NAME = re.compile(r"ubyte(\.gz)?$")


def is_idx_name(name: str) -> bool:
    """Whether a file is named as IDX files are: `…ubyte` or `…ubyte.gz`."""
    return _NAME.search(name) is not None


def read_idx(path: Path, dimensions: int) -> Bytes:
    """Read one IDX file of uint8, gzip-compressed or not.

    Args:
        path: the file.
        dimensions: how many dimensions it must have: 3 for images, 1 for labels.

    Returns:
        A uint8 array of that many dimensions.

    Raises:
        UserError: the file is unreadable, of another kind, too short or too long; the message names it.
    """
    content = _read_bytes(path)
    header = 4 + 4 * dimensions
    expected = bytes((0, 0, _UINT8, dimensions))
    require(
        content[:4] == expected,
        f"{path}: wrong magic number, expected 0x{expected.hex()} (IDX, uint8, {dimensions} dimensions), "
        f"got 0x{content[:4].hex()}",
    )
    require(len(content) >= header, f"{path}: too short, it ends within its header of {header} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    size = math.prod(shape)
    require(
        len(content) == header + size,
        f"{path}: too {'short' if len(content) < header + size else 'long'}, its header promises "
        f"{' × '.join(map(str, shape))} bytes, {len(content) - header} follow",
    )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def has_idx_images(folder: Path) -> bool:
    """Whether the folder holds an IDX image file."""
    return any(is_idx_name(path.name) and "images" in path.name for path in folder.iterdir())


def read_idx_folder(folder: Path) -> tuple[Bytes, Bytes | None]:
    """Read the images and labels in a folder; if some files are named `train*`, read these alone.

    Returns:
        Images uint8 (N, H, W), and labels uint8 (N,) or None, as from `read_idx_files`.

    Raises:
        UserError: the folder does not have an image file, or a file is wrong; the message names the folder or the file.
    """
    # A file that is there both plain and compressed counts once.
    files = {path.name.removesuffix(".gz"): path for path in sorted(folder.iterdir(), reverse=True)}
    images = [path for name, path in sorted(files.items()) if is_idx_name(name) and "images" in name]
    require(bool(images), f"{folder}: no IDX image file in this folder (a name like train-images-idx3-ubyte[.gz])")
    # The test images of MNIST and of similar data sets (t10k-*) stay out of training.
    train = [path for path in images if path.name.startswith("train")]
    return read_idx_files(train or images)


def read_idx_files(paths: Sequence[Path]) -> tuple[Bytes, Bytes | None]:
    """Read image files, and the label file of each (the name with `images` → `labels` and `idx3` → `idx1`).

    Returns:
        All images, uint8 (N, H, W), in the order of `paths`; all labels, uint8 (N,), or None if there are none.

    Raises:
        UserError: the image sizes differ, a label file does not fit, or only some image files have a label file; the
            message names the file.
    """
    images, labels = [], []
    for path in paths:
        images.append(read_idx(path, dimensions=3))
        size, first = images[-1].shape[1:], images[0].shape[1:]
        require(
            size == first,
            f"{path}: its images are {size[0]}×{size[1]}, those of {paths[0].name} {first[0]}×{first[1]}; "
            "one size is needed",
        )
        label_file = _label_file(path)
        if label_file is not None:
            labels.append(read_idx(label_file, dimensions=1))
            require(
                len(labels[-1]) == len(images[-1]),
                f"{label_file}: {len(labels[-1])} labels for the {len(images[-1])} images of {path.name}",
            )
    require(len(labels) in (0, len(images)), f"{paths[0].parent}: some image files have a label file, others none")
    return np.concatenate(images), np.concatenate(labels) if labels else None


def _label_file(images: Path) -> Path | None:
    name = images.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    candidates = [images.with_name(name), images.with_name(f"{name}.gz")]
    return next((path for path in candidates if path != images and path.is_file()), None)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise UserError(f"{path}: cannot be read: {error}") from error
