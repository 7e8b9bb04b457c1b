"""Reads images from a CSV: Kaggle's MNIST, and others with one grey image per line."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np

from fused_gan.base.errors import UserError, require
from fused_gan.data.idx import is_transposed
from fused_gan.data.image_data import ImageData, PassedOver

_LABEL = "label"
_ROW_NUMBERS = ("", "id", "index", "unnamed: 0")  # a first column of numbers of rows, as of pandas, or Kannada-MNIST's


def read_csv(path: Path) -> ImageData:
    """Read square grey images, one per line: a label and the pixels 0…255 row by row, or the pixels alone.

    A first line of names is optional. A column called `label` may stand anywhere; without names, the label comes first.
    A first column called `id` or `index`, or without a name, counts the rows and is passed over.
    EMNIST's images, which are stored transposed, are shown upright.

    Raises:
        UserError: the file cannot be read, a line has another number of values, a value is not an integer or not in
            0…255, or the number of pixels is not a square; the message names the file.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = [word.strip().strip('"').lower() for word in file.readline().split(",")]
        named = not all(map(_is_integer, first))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of no lines, which is an error below
            values = np.loadtxt(path, np.int32, delimiter=",", skiprows=int(named), ndmin=2, encoding="utf-8-sig")
    except Exception as error:  # OSError, UnicodeDecodeError, ValueError with line and column, MemoryError …
        raise UserError(f"{path}: cannot be read as a CSV of integers: {str(error) or type(error).__name__}") from error
    require(len(values) > 0, f"{path}: it holds no images")
    columns = values.shape[1]
    require(len(first) == columns, f"{path}: expected {len(first)} values per line, as in the first, got {columns}")
    passed_over = []
    if named and columns > 1 and first[0] in _ROW_NUMBERS:
        passed_over = [PassedOver("columns that count the rows", (first[0] or "the first",))]
        first, values, columns = first[1:], values[:, 1:], columns - 1
    label = first.index(_LABEL) if named and _LABEL in first else None
    if label is None and math.isqrt(columns) ** 2 != columns:
        label = 0
    labels = None if label is None else values[:, label]
    pixels = values if label is None else np.delete(values, label, axis=1)
    side = math.isqrt(pixels.shape[1])
    require(
        side > 0 and side**2 == pixels.shape[1],
        f"{path}: expected as many pixels per line as a square grey image has, after a label or alone, got {columns} "
        "values",
    )
    require(
        bool(((pixels >= 0) & (pixels <= 255)).all()),
        f"{path}: expected pixels of 0…255, got {pixels.min()} … {pixels.max()}",
    )
    images = pixels.astype(np.uint8).reshape(-1, side, side)
    if is_transposed(path.name):
        images = images.transpose(0, 2, 1)
    return ImageData.from_arrays(str(path), images, labels, passed_over=passed_over)


def _is_integer(word: str) -> bool:
    try:
        int(word)
    except ValueError:
        return False
    return True
