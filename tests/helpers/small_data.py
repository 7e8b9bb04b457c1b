"""For the tests of evaluation: a small data set that can be learned, and an extractor for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fused_gan.evaluation import Extractor, train_extractor

SIZE = 8


def write_squares(path: Path, count: int = 400, size: int = SIZE, labelled: bool = True, seed: int = 0) -> str:
    """An .npz of grey images with one square each, of a brightness of its own, in one of four corners: the class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = random.integers(0, 40, (count, size, size))
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        top, left = label // 2 * half, label % 2 * half
        image[top : top + half - 1, left : left + half - 1] += random.integers(120, 215)
    arrays = {"images": images.astype(np.uint8)} | ({"labels": labels} if labelled else {})
    np.savez(path, **arrays)
    return str(path)


def small_extractor(data: str, out: Path, steps: int = 60) -> Extractor:
    """One trained for less than a second."""
    return train_extractor(data, out, steps=steps)
