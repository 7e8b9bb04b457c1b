"""Reads the pictures in a folder, and turns images of any size and colour into images that a network takes.

The largest centred square is resized by Pillow's bicubic filter. Grey is the luma, 0.299 R + 0.587 G + 0.114 B. RGB of
a grey picture is three equal channels. Transparent pictures are laid over white. A rotation noted by a camera is
applied.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fused_gan.base.errors import UserError, require

Pixels = NDArray[np.uint8]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")


def is_picture(path: Path) -> bool:
    """Whether a file is named as a picture."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_picture_folder(
    folder: Path, image_size: int | None, channels: int | None
) -> tuple[Pixels, NDArray[np.int64] | None]:
    """Read the pictures in a folder, or in its subfolders, which then are the classes in the order of their names.

    An empty subfolder is a class without pictures. A subfolder with other files alone is not a class.

    Args:
        folder: holds pictures, or folders of pictures.
        image_size: pixels per side, by the rules at the top; None takes the pictures as they are.
        channels: 1 or 3; None takes 1 if every picture is grey, else 3.

    Returns:
        uint8 (N, H, W, C), by class and then by name; labels int64 (N,), or None without subfolders.

    Raises:
        UserError: the folder has neither pictures nor folders of them, or both; or a picture cannot be read, or has
            another size than the first. The message names the folder or the picture.
    """
    folders = {path: [*path.iterdir()] for path in folder.iterdir() if path.is_dir()}
    classes = sorted(path for path, inner in folders.items() if not inner or any(map(is_picture, inner)))
    if not any(folders[path] for path in classes):
        classes = []
    paths = sorted(path for path in folder.iterdir() if is_picture(path))
    require(
        bool(paths) != bool(classes),
        f"{folder}: expected pictures ({', '.join(SUFFIXES)}), or folders of them, one per class, "
        f"got {'both' if paths else 'neither'}, and no IDX image file either",
    )
    labels = None
    if classes:
        labelled = [
            (path, label) for label, inner in enumerate(classes) for path in sorted(filter(is_picture, inner.iterdir()))
        ]
        paths, labels = [path for path, _ in labelled], np.array([label for _, label in labelled], np.int64)
    pictures = [_read(path, image_size, channels) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        (width, height), (first_width, first_height) = picture.size, pictures[0].size
        require(
            picture.size == pictures[0].size,
            f"{path}: it is {height}×{width}, {paths[0].name} {first_height}×{first_width}; "
            "give one size to all with --image-size",
        )
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    pixels = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    return (pixels[..., None] if mode == "L" else pixels), labels


def fitted(picture: Image.Image, image_size: int | None, channels: int | None) -> Image.Image:
    """Return the picture in the wanted size and mode ("L" or "RGB")."""
    if channels is not None:
        picture = picture.convert("L" if channels == 1 else "RGB")
    return picture if image_size is None else ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)


def _read(path: Path, image_size: int | None, channels: int | None) -> Image.Image:
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
            # "1" is black and white, "LA" went through the transparency above; 16-bit grey becomes 8-bit.
            if picture.mode.startswith("I;16"):
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = picture.convert("L" if picture.mode in ("L", "1") else "RGB")
            return fitted(picture, image_size, channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for a broken PNG.
        raise UserError(f"{path}: cannot be read as a picture: {error}") from error
