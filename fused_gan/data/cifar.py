"""Reads the binary version of CIFAR-10 and CIFAR-100.

A record is the label (CIFAR-100: the coarse one, then the fine one), then 32×32 bytes of red, of green and of blue. The
names of the classes are in a text file beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fused_gan.base.errors import UserError, require
from fused_gan.data.folders import HIDDEN, listing, notes
from fused_gan.data.image_data import ImageData, PassedOver, natural_key

_PIXELS = 3 * 32 * 32
_TEN = re.compile(r"data_batch_[0-9]+\.bin|test_batch\.bin")
_HUNDRED = ("train.bin", "test.bin")
_PYTHON = {"batches.meta", "data_batch_1"}, {"meta", "train", "test"}  # files of CIFAR's Python version, pickles


def is_cifar_name(name: str) -> bool:
    """Whether a file is named as in the binary version of CIFAR-10 or CIFAR-100."""
    return _TEN.fullmatch(name) is not None or name in _HUNDRED


def has_cifar(folder: Path) -> bool:
    """Whether the folder holds the binary version.

    Raises:
        UserError: it holds the Python version, which is pickled.
    """
    names = {path.name for path in listing(folder)[0]}
    require(
        not any(names >= python for python in _PYTHON),
        f"{folder}: this is CIFAR's Python version, whose pickles could run any code; give its binary version, "
        "cifar-10-binary or cifar-100-binary",
    )
    return any(map(is_cifar_name, names))


def read_cifar_folder(folder: Path) -> ImageData:
    """Read the training images in a folder, or the test images if there are no others.

    Raises:
        UserError: a file is wrong, or the folder holds CIFAR-10 and CIFAR-100; the message names it.
    """
    files, folders, others = listing(folder)
    of_ten = [path for path in files if _TEN.fullmatch(path.name)]
    of_hundred = [path for path in files if path.name in _HUNDRED]
    require(
        not (of_ten and of_hundred),
        f"{folder}: expected one data set, got CIFAR-10 and CIFAR-100; choose a file, as --data {folder / 'train.bin'}",
    )
    found = sorted(of_ten or of_hundred, key=lambda path: natural_key(path.name))
    paths = [path for path in found if "test" not in path.name] or found
    rest = [path.name for path in files if path not in paths and path.suffix not in (".txt", ".html")]
    passed_over = [
        (HIDDEN, others),
        ("files of other parts or kinds", rest),
        ("folders", [path.name for path in folders]),
    ]
    return read_cifar_files(paths, notes(passed_over))


def read_cifar_files(paths: Sequence[Path], passed_over: Sequence[PassedOver] = ()) -> ImageData:
    """Read files of the binary version.

    Returns:
        Images (N, 3, 32, 32) in the order of `paths`, with fine labels, and names of classes if their file is there.

    Raises:
        UserError: a file is unreadable or of another length, or has labels that CIFAR does not have.
    """
    fine = 1 if paths[0].name in _HUNDRED else 0
    classes, size = (100 if fine else 10), fine + 1 + _PIXELS
    records = []
    for path in paths:
        try:
            content = np.fromfile(path, np.uint8)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        require(
            len(content) > 0 and len(content) % size == 0,
            f"{path}: expected records of {size} bytes, as CIFAR-{classes} has in its binary version, got "
            f"{len(content):,} bytes",
        )
        records.append(content.reshape(-1, size))
        largest = records[-1][:, fine].max()
        require(largest < classes, f"{path}: expected labels of 0 … {classes - 1}, got {largest}")
    found = np.concatenate(records)
    pixels = found[:, fine + 1 :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    names = _class_names(paths[0].with_name("fine_label_names.txt" if fine else "batches.meta.txt"), classes)
    return ImageData.from_arrays(str(paths[0].parent), pixels, found[:, fine], names, passed_over)


def _class_names(path: Path, classes: int) -> list[str]:
    """Return the names in a text file, one per line; none if the file does not exist."""
    if not path.is_file():
        return []
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    require(len(names) == classes, f"{path}: expected {classes} names of classes, got {len(names)}")
    return names
