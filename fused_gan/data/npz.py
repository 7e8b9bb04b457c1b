"""Reads .npz archives: ours, MedMNIST's, KMNIST's, Keras' and those of `numpy.savez(file, images, labels)`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fused_gan.base.errors import UserError, require
from fused_gan.data.folders import notes
from fused_gan.data.image_data import ImageData, PassedOver, listed

_NAMES = "class_names"
_OURS = {"seed", _NAMES}  # what `fused-gan sample` writes beside images and labels


@dataclass(frozen=True)
class _Part:
    """A data set in an archive: the names of its arrays, and which split it is; "" where there is no other."""

    images: str
    labels: str
    split: str


_PARTS = (
    _Part("images", "labels", ""),
    _Part("arr_0", "arr_1", ""),
    *(_Part(f"{split}_images", f"{split}_labels", split) for split in ("train", "val", "test")),
    *(_Part(f"x_{split}", f"y_{split}", split) for split in ("train", "val", "test")),
)


def read_npz(path: Path, split: str = "") -> ImageData:
    """Read the images in an .npz, and their labels. Nothing is unpickled.

    Images are uint8 (N, H, W) or (N, H, W, 1 or 3), labels integers (N,) or (N, 1). Their arrays are called `images`
    and `labels`; `train_images` and `train_labels`, and so for val and test; `x_train` and `y_train`, and so for test;
    or `arr_0` and `arr_1`. Where `arr_0` is alone, labels may be the `arr_0` of a second file, in whose name `imgs` is
    `labels`. An array `class_names` of texts says what the labels are called, which are then its indices. Labels of
    several values per image are passed over.

    Args:
        path: the file.
        split: train, val or test; "" takes train where there are several.

    Raises:
        UserError: the file is broken or holds no such arrays, or not the split; the message names it.
    """
    with _opened(path) as archive:
        part = _chosen(path, archive.files, split)
        images = _array(path, archive, part.images)
        labels = _array(path, archive, part.labels) if part.labels in archive else None
        names = _array(path, archive, _NAMES) if _NAMES in archive and part.images == "images" else None
        unused = [name for name in archive.files if name not in {part.images, part.labels, *_OURS}]
    if labels is None and part.images == "arr_0":
        labels = _labels_beside(path)
    passed_over = notes([("arrays of other parts or kinds", unused)])
    if labels is not None and labels.ndim == 2 and labels.shape[:1] == images.shape[:1]:
        if labels.shape[1] == 1:  # MedMNIST's, Keras'
            labels = labels[:, 0]
        else:
            passed_over.append(PassedOver(f"labels of {labels.shape[1]} values per image", (part.labels,)))
            labels = None
    if part.images == "arr_0" and labels is not None and labels.ndim != 1:
        passed_over.append(PassedOver("arrays of other parts or kinds", (part.labels,)))
        labels = None
    return ImageData.from_arrays(str(path), images, labels, _texts(path, names), passed_over)


def _chosen(path: Path, names: list[str], split: str) -> _Part:
    found = [part for part in _PARTS if part.images in names]
    require(bool(found), f"{path}: it has no array 'images', only {', '.join(names) or 'nothing'}")
    splits = [part.split for part in found]
    require(
        len(set(splits)) == len(splits) and (len(splits) == 1 or "" not in splits),
        f"{path}: expected one data set, got the images {listed([part.images for part in found])}",
    )
    if not split and len(found) > 1:
        require("train" in splits, f"{path}: it has {listed(splits)} and no train; choose one, as --data {path}/test")
        split = "train"
    require(
        not split or split in splits,
        f"{path}: expected one of the parts {listed([one for one in splits if one]) or 'none'}, got {split}",
    )
    return next(part for part in found if part.split == split or not split)


def _labels_beside(path: Path) -> Any:
    """Return the labels in the file beside KMNIST's and Kuzushiji-49's images, or None."""
    for word in ("imgs", "images"):
        beside = path.with_name(path.name.replace(word, "labels"))
        if beside != path and beside.is_file():
            with _opened(beside) as archive:
                require("arr_0" in archive, f"{beside}: it has no array 'arr_0', only {', '.join(archive.files)}")
                return _array(beside, archive, "arr_0")
    return None


def _texts(path: Path, names: Any) -> list[str]:
    if names is None:
        return []
    require(
        names.ndim == 1 and names.dtype.kind == "U",
        f"{path}: class_names must be a list of texts, got {names.dtype} {names.shape}",
    )
    require(len(set(names)) == len(names), f"{path}: class_names must differ from each other, got {', '.join(names)}")
    return list(map(str, names))


def _opened(path: Path) -> Any:
    # numpy.load also opens a single .npy and a pickle, whatever the suffix.
    require(zipfile.is_zipfile(path), f"{path}: broken, or not an .npz (an .npz is a zip archive)")
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:
        raise _unreadable(path, error) from error


def _array(path: Path, archive: Any, name: str) -> Any:
    try:
        return np.asarray(archive[name])  # NumPy returns a member that is not an array as its bytes
    except Exception as error:
        # ValueError: a damaged array header, or Python objects, which only unpickling could read. A damaged zip raises
        # BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, MemoryError, KeyError …
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read as an .npz of plain arrays: {str(error) or type(error).__name__}")
