"""Reads a folder of pictures, or of one folder of them for each class."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fused_gan.base.errors import UserError, require
from fused_gan.data.folders import HIDDEN, listing, notes, splits_of
from fused_gan.data.image_data import DARKEST, ImageData, PassedOver, listed, natural_key
from fused_gan.data.images import room_for
from fused_gan.data.picture_file import SUFFIXES, Picture, is_picture, read_picture

DATA_ENDINGS = (".npz", ".csv", ".bin", "ubyte", "ubyte.gz", "ubyte.xz")


def read_picture_folder(folder: Path, image_size: int | None, channels: int | None) -> ImageData:
    """Read the pictures in a folder, or in its subfolders, which then are the classes, in the order of their names.

    Numbers in the names of classes count as numbers: class 2 comes before class 10. Images are ordered by the names of
    folder and file as text. A subfolder without pictures is not a class.

    Args:
        folder: holds pictures, or folders of pictures.
        image_size: pixels per side, by the rules in `fused_gan.data.picture_file`; None takes the pictures as they are.
        channels: 1 or 3; None takes 1 if every picture is grey, else 3.

    Raises:
        UserError: the folder has neither pictures nor folders of them, or both; its folders are the parts of a data
            set (train, test …) and not classes; or a picture cannot be read, has another size than the first, or is
            dark because it holds fewer bits than its file has place for. The message names the folder or the picture.
    """
    files, folders, _ = listing(folder)
    folders = [path for path in folders if not _is_run(path)]
    inside = {path: [file for file in listing(path)[0] if is_picture(file)] for path in folders}
    classes = sorted((path for path in folders if inside[path]), key=lambda path: natural_key(path.name))
    pictures = list(filter(is_picture, files))
    require(
        bool(pictures) != bool(classes),
        f"{folder}: expected pictures ({', '.join(SUFFIXES)}), or folders of them, one per class, "
        f"got {'both' if pictures else 'neither'}, and no IDX image file either{_what_may_be_meant(files, folders)}",
    )
    told = splits_of(path.name for path in classes)
    splits = {path: told[path.name] for path in classes if path.name in told}
    # A class may be called train. One called train and one called test are parts, as beside SVHN's folder extra.
    if splits and (len(splits) == len(classes) or len(set(splits.values())) > 1):
        parts = list(splits)
        names = listed([path.name for path in parts])
        first = min(parts, key=_train_first)
        raise UserError(
            f"{folder}: expected one data set, got {names}, which are parts of one and not classes; choose one, as "
            f"--data {first}"
        )
    paths, labels = pictures, None
    if classes:
        # By name as text: images keep their places of before the classes were ordered by numbers, so runs go on alike.
        labelled = [(path, classes.index(of)) for of in sorted(classes) for path in inside[of]]
        paths, labels = [path for path, _ in labelled], np.array([label for _, label in labelled], np.int64)
    if image_size is not None:
        room_for(len(paths), image_size, image_size, channels or 1)
    read = [read_picture(path, image_size, channels) for path in paths]
    _require_one_size(paths, read)
    _require_bright(folder, paths, read)
    mode = "L" if all(picture.image.mode == "L" for picture in read) else "RGB"
    pixels = np.stack([np.asarray(picture.image.convert(mode)) for picture in read])
    data = ImageData.from_arrays(
        str(folder),
        pixels[..., None] if mode == "L" else pixels,
        labels,
        [path.name for path in classes],
        [*_passed_over(folder, classes), *_further_pages(folder, paths, read)],
    )
    if labels is None:
        return data
    former = _former_classes(folder)
    return replace(data, former_labels=tuple(former.index(path.name) for path in classes))


def _passed_over(folder: Path, classes: Sequence[Path]) -> list[PassedOver]:
    files, folders, others = listing(folder)
    not_pictures = [path.name for path in files if not is_picture(path)]
    deeper = []
    for path in classes:
        inner_files, inner_folders, inner_others = listing(path)
        others += [f"{path.name}/{name}" for name in inner_others]
        not_pictures += [f"{path.name}/{inner.name}" for inner in inner_files if not is_picture(inner)]
        deeper += [f"{path.name}/{inner.name}" for inner in inner_folders]
    return notes(
        [
            (HIDDEN, others),
            ("files with other endings", not_pictures),
            ("run folders", [path.name for path in folders if _is_run(path)]),
            ("folders without pictures", [p.name for p in folders if p not in classes and not _is_run(p)]),
            ("folders within a class", deeper),
        ]
    )


def _further_pages(folder: Path, paths: Sequence[Path], read: Sequence[Picture]) -> list[PassedOver]:
    several = {path: picture.further for path, picture in zip(paths, read, strict=True) if picture.further}
    names = tuple(str(path.relative_to(folder)) for path in several)
    return [PassedOver("pages or frames behind the first", names, sum(several.values()))] if several else []


def _former_classes(folder: Path) -> list[str]:
    """Return the folders that were the classes before classes had names, in the order of their numbers.

    They were ordered as text, and empty and hidden folders were among them.
    """
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # not a folder, or one that only the system may read
            names = os.listdir(path)
            if not names or any(is_picture(Path(name)) for name in names if not name.startswith(".")):
                found.append(path.name)
    return sorted(found)


def _what_may_be_meant(files: Sequence[Path], folders: Sequence[Path]) -> str:
    """Return the end of a message that names what lies in a folder and can be given itself."""
    within = [path for path in folders if _holds_data(path)]
    found = [path for path in files if path.name.endswith(DATA_ENDINGS)] + within
    found.sort(key=_train_first)
    return f"; choose one of {listed([path.name for path in found])}, as --data {found[0]}" if found else ""


def _is_run(folder: Path) -> bool:
    """Whether a training wrote the folder, which has pictures, too. Then its data is still what it was begun with."""
    return (folder / "config.json").is_file() and (folder / "checkpoints").is_dir()


def _train_first(path: Path) -> bool:
    return "train" not in path.name.lower()


def _holds_data(folder: Path) -> bool:
    files, folders, _ = listing(folder)
    return any(is_picture(path) or path.name.endswith(DATA_ENDINGS) for path in files) or any(
        any(map(is_picture, listing(path)[0])) for path in folders
    )


def _require_one_size(paths: Sequence[Path], read: Sequence[Picture]) -> None:
    (first_width, first_height) = read[0].image.size
    for path, picture in zip(paths, read, strict=True):
        width, height = picture.image.size
        require(
            (width, height) == (first_width, first_height),
            f"{path}: it is {height}×{width}, {paths[0].name} {first_height}×{first_width}; "
            "give one size to all with --image-size",
        )


def _require_bright(folder: Path, paths: Sequence[Path], read: Sequence[Picture]) -> None:
    """Raise `UserError` if pictures of more than 8 bits leave the upper bits unused, as 12 bits in a 16-bit file do.

    Their depth cannot be taken from the pixels: held-out pictures could be darker, and would be scaled differently.
    """
    deep = [
        (picture.brightest, path) for path, picture in zip(paths, read, strict=True) if picture.brightest is not None
    ]
    if deep:
        brightest, path = max(deep)
        require(
            brightest >= DARKEST or brightest == 0,
            f"{folder}: expected pictures that use their range, got {brightest:.1%} of it as the largest value, in "
            f"{path.name}: 12 bits in a file of 16? Scale them to the whole range, or to 8 bits",
        )
