"""Reads the IDX format of MNIST, and folders of such files.

A file is big-endian. It holds a magic number 0x0000 tt dd (type tt, dd dimensions), the sizes, and the values. Images
and most labels are uint8, 0x08. QMNIST's labels are rows of eight int32, 0x0c, of which the first is the class.

EMNIST's images are stored transposed. A file whose name has the word emnist is shown upright.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fused_gan.base.errors import UserError, require
from fused_gan.data.folders import HIDDEN, SPLITS, listing, notes
from fused_gan.data.image_data import ImageData, PassedOver, listed, natural_key

Bytes = NDArray[np.uint8]

_TYPES = {0x08: ("uint8", ">u1"), 0x0C: ("int32", ">i4")}  # the format's codes
_PACKED = (".gz", ".xz")
_NAME = re.compile(r"(ubyte|idx2-int)(\.gz|\.xz)?$")


def is_idx_name(name: str) -> bool:
    """Whether a file is named as IDX files are: `…ubyte` or `…idx2-int`, perhaps with `.gz` or `.xz`."""
    return _NAME.search(name) is not None


def is_transposed(name: str) -> bool:
    """Whether a file is named as EMNIST's, whose images are stored transposed."""
    return re.search(r"(?<![a-z])emnist", name.lower()) is not None


def read_idx(path: Path, dimensions: int, code: int = 0x08) -> NDArray[np.generic]:
    """Read one IDX file, compressed by gzip or xz or not.

    Args:
        path: the file.
        dimensions: how many dimensions it must have: 3 for images, 1 for labels.
        code: the code of its type: 0x08 for uint8, 0x0c for int32.

    Returns:
        An array of that type, with that many dimensions.

    Raises:
        UserError: the file is unreadable, of another kind, too short or too long; the message names it.
    """
    content = _read_bytes(path)
    header = 4 + 4 * dimensions
    expected = bytes((0, 0, code, dimensions))
    kind, dtype = _TYPES[code]
    require(
        content[:4] == expected,
        f"{path}: wrong magic number, expected 0x{expected.hex()} (IDX, {kind}, {dimensions} dimensions), "
        f"got 0x{content[:4].hex()}",
    )
    require(len(content) >= header, f"{path}: too short, it ends within its header of {header} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    sizes = shape if code == 0x08 else (*shape, np.dtype(dtype).itemsize)
    size = math.prod(sizes)
    require(
        len(content) == header + size,
        f"{path}: too {'short' if len(content) < header + size else 'long'}, its header promises "
        f"{' × '.join(map(str, sizes))} bytes, {len(content) - header} follow",
    )
    return np.frombuffer(content, dtype, offset=header).reshape(shape)


@dataclass(frozen=True)
class _ImageFile:
    """An IDX file of images, with what its name says.

    Attributes:
        path: the file.
        data_set: the words that are the data set's, as "emnist-letters".
        split: "train", "test" or "val"; "" if no word says it.
        part: the words that tell files of one split apart: numbers and single letters.
    """

    path: Path
    data_set: str
    split: str
    part: str

    @classmethod
    def named(cls, path: Path) -> _ImageFile:
        words = re.split(r"[-_. ]+", _unpacked(path.name).lower())
        names, parts, split = [], [], ""
        for word in words:
            plain = word if word in SPLITS else re.sub(r"[0-9]+k?$", "", word)
            if word in ("images", "idx3", "ubyte"):
                continue
            if plain in SPLITS:
                split = SPLITS[plain]
                parts.append(word)
            elif word.isdigit() or len(word) == 1:
                parts.append(word)
            else:
                names.append(word)
        return cls(path, "-".join(names), split, "-".join(parts))


def has_idx_images(folder: Path) -> bool:
    """Whether the folder holds an IDX image file."""
    return any(map(_is_image_file, listing(folder)[0]))


def read_idx_folder(folder: Path) -> ImageData:
    """Read the images and labels of the one data set in a folder.

    If some files are called `train`, only these are read, and the others are passed over.

    Raises:
        UserError: the folder has no image file, or has files of several data sets; or a file is wrong. The message
            names the folder or the file.
    """
    files, folders, others = listing(folder)
    found: dict[tuple[str, str, str], _ImageFile] = {}
    for path in filter(_is_image_file, files):  # sorted: a plain file comes before its compressed form
        file = _ImageFile.named(path)
        found.setdefault((file.data_set, file.split, file.part), file)
    require(bool(found), f"{folder}: no IDX image file in this folder (a name like train-images-idx3-ubyte[.gz])")
    chosen = _one_data_set(folder, list(found.values()))
    paths = [file.path for file in sorted(chosen, key=lambda file: natural_key(file.part))]
    used = {*paths, *filter(None, map(_label_file, paths))}
    used |= {path for path in files if any(_unpacked(path.name) == _unpacked(other.name) for other in used)}
    passed_over = notes(
        [
            (HIDDEN, others),
            ("files of other parts or kinds", [path.name for path in files if path not in used]),
            ("folders", [path.name for path in folders]),
        ]
    )
    return read_idx_files(paths, passed_over)


def _one_data_set(folder: Path, files: Sequence[_ImageFile]) -> Sequence[_ImageFile]:
    """Return the files of the part that is to be read."""
    names = sorted({file.data_set for file in files})
    way = f"choose an image file, as --data {next((file for file in files if file.split == 'train'), files[0]).path}"
    require(
        len(names) == 1,
        f"{folder}: expected one data set, got {', '.join(name or 'one without a name' for name in names)}; {way}",
    )
    for split in ("train", ""):
        chosen = [file for file in files if file.split == split]
        if chosen:
            return chosen
    splits = sorted({file.split for file in files})
    require(len(splits) == 1, f"{folder}: expected files of one part, got {listed(splits)} and no train; {way}")
    return files


def read_idx_files(paths: Sequence[Path], passed_over: Sequence[PassedOver] = ()) -> ImageData:
    """Read image files, and the label file of each (the name with `images` → `labels` and `idx3` → `idx1` or `idx2`).

    Returns:
        All images in the order of `paths`, with the labels if there are any.

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
            labels.append(_read_labels(label_file))
            require(
                len(labels[-1]) == len(images[-1]),
                f"{label_file}: {len(labels[-1])} labels for the {len(images[-1])} images of {path.name}",
            )
    require(len(labels) in (0, len(images)), f"{paths[0].parent}: some image files have a label file, others none")
    pixels = np.concatenate(images)
    name = str(paths[0] if len(paths) == 1 else paths[0].parent)
    transposed = is_transposed(paths[0].name)
    data = ImageData.from_arrays(
        name,
        pixels.transpose(0, 2, 1) if transposed else pixels,
        np.concatenate(labels) if labels else None,
        passed_over=passed_over,
    )
    return replace(data, former_labels=None) if transposed else data


def _read_labels(path: Path) -> NDArray[np.generic]:
    if "idx2" not in path.name:
        return read_idx(path, dimensions=1)
    rows = read_idx(path, dimensions=2, code=0x0C)
    require(rows.shape[1] > 0, f"{path}: expected rows that begin with the class, got shape {rows.shape}")
    return rows[:, 0]


def _is_image_file(path: Path) -> bool:
    return _unpacked(path.name).endswith("ubyte") and "images" in path.name


def _unpacked(name: str) -> str:
    return next((name.removesuffix(end) for end in _PACKED if name.endswith(end)), name)


def _label_file(images: Path) -> Path | None:
    name = _unpacked(images.name).replace("images", "labels")
    names = (name.replace("idx3", "idx1"), name.replace("idx3-ubyte", "idx2-int"))
    candidates = [images.with_name(f"{one}{end}") for one in names for end in ("", *_PACKED)]
    return next((path for path in candidates if path != images and path.is_file()), None)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if content.startswith(b"\xfd7zXZ"):
            import lzma  # which a Python can be built without

            return lzma.decompress(content)
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except Exception as error:  # OSError, EOFError, zlib.error, LZMAError, MemoryError of a false size …
        raise UserError(f"{path}: cannot be read: {str(error) or type(error).__name__}") from error
