"""Reads one picture file, and turns pictures of any size, colour and depth into pictures that a network takes.

The largest centred square is resized by Pillow's bicubic filter. Grey is the luma, 0.299 R + 0.587 G + 0.114 B. RGB of
a grey picture is three equal channels. Transparent pictures are laid over white. A rotation noted by a camera is
applied. A picture is grey if its file stores no colour: a palette that has greys alone is grey, three equal channels
are RGB.

Of 16 bits per value the upper 8 are taken. 12 bits in a file that says so are scaled by 4095, and floating-point values
of 0…1 by 1. Other floating-point values and integers of 32 bits are refused, because nothing says what is white.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fused_gan.base.errors import UserError, require

Pixels = NDArray[np.uint8]
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff",
    ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip
_ORIENTATION = 0x0112  # the EXIF tag
_PHOTOMETRIC = 0x0106  # the TIFF tag
_UPRIGHT = {  # by the tag's value
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A picture that was read.

    Attributes:
        image: in mode "L" or "RGB".
        brightest: the largest value over the largest that the file can hold, if that is more than 255; else None.
        further: pages or frames behind the first, which were not read.
    """

    image: Image.Image
    brightest: float | None
    further: int


def is_picture(path: Path) -> bool:
    """Whether a file is named as a picture."""
    return path.suffix.lower() in SUFFIXES


def read_picture(path: Path, image_size: int | None, channels: int | None) -> Picture:
    """Read the first picture in a file.

    Args:
        path: the file.
        image_size: pixels per side, by the rules at the top; None takes the picture as it is.
        channels: 1 or 3; None takes 1 if the picture is grey, else 3.

    Raises:
        UserError: the file cannot be read, or nothing says which of its values is white. The message names the file.
    """
    try:
        # Not by its name: Pillow then maps an uncompressed TIFF into memory, and scrambles it if it lies on its side.
        with path.open("rb") as file, Image.open(file) as opened:
            # Before the pixels are read: then Pillow may have closed the file.
            further = getattr(opened, "n_frames", 1) - 1
            stored = str(opened.tile)  # says how values are stored, which the mode does not keep
            opened.load()
            image, brightest = _eight_bits(opened, stored)
            # Not ImageOps.exif_transpose, which also writes all other tags anew, and fails where one is odd.
            turn = _UPRIGHT.get(opened.getexif().get(_ORIENTATION, 1))
            if turn is not None:
                image = image.transpose(turn)
            return Picture(fitted(image, image_size, channels), brightest, further)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:  # whose message is about the object that was opened
        raise UserError(f"{path}: cannot be read as a picture: not of a kind that Pillow knows, or damaged") from error
    except Exception as error:
        # Pillow's readers raise whatever the damage leads to: SyntaxError, struct.error, IndexError, MemoryError …
        raise UserError(f"{path}: cannot be read as a picture: {str(error) or type(error).__name__}") from error


def fitted(picture: Image.Image, image_size: int | None, channels: int | None) -> Image.Image:
    """Return the picture in the wanted size and mode ("L" or "RGB")."""
    if channels is not None:
        picture = picture.convert("L" if channels == 1 else "RGB")
    return picture if image_size is None else ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)


def _eight_bits(opened: Image.Image, stored: str) -> tuple[Image.Image, float | None]:
    """Return a picture in mode "L" or "RGB", and its brightest value if it was stored in more than 8 bits."""
    transparent = opened.info.get("transparency")
    if opened.mode == "F" or opened.mode.startswith("I"):
        return _of_one_deep_channel(opened, stored, transparent)
    if isinstance(transparent, int) and opened.mode in ("1", "L"):
        # A grey PNG of 1, 2 or 4 bits names the transparent value as stored, while Pillow scales the pixels to 0…255.
        bits = next((bits for bits in (1, 2, 4) if f"'L;{bits}'" in stored), 1 if opened.mode == "1" else 8)
        grey = np.asarray(opened.convert("L"))
        return _over_white(grey, grey == transparent * 255 // (2**bits - 1)), None
    deep = re.search(r";16|'RGB', \d{4,}\)", stored) is not None  # the second is a PPM's largest value
    if deep and transparent is not None:
        raise UserError("a transparent colour of 16 bits per value is not supported; save it with 8 bits per value")
    grey_alpha = opened.mode in ("LA", "La", "PA") or "'LA;16B'" in stored
    image = opened
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("L"), None
    image = image.convert("RGB")
    if grey_alpha or opened.mode == "P":
        pixels = np.asarray(image)
        if (pixels == pixels[..., :1]).all():
            image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    return image, np.asarray(image).max() / 255 if deep else None


def _of_one_deep_channel(opened: Image.Image, stored: str, transparent: Any) -> tuple[Image.Image, float]:
    values = np.asarray(opened)
    if opened.mode == "F":
        require(
            bool(((values >= 0) & (values <= 1)).all()),  # not with NaN
            "expected floating-point values of 0…1, which are black and white, got others; scale them",
        )
        grey = (values * 255).round().astype(np.uint8)
        return _over_white(_with_black_zero(opened, grey), None), float(values.max())
    # Pillow reads 16-bit PGM files, and its older versions 16-bit PNG files, as 32-bit integers.
    require(
        opened.mode != "I" or opened.format in ("PNG", "PPM"),
        "expected at most 16 bits per value, unsigned, got 32 bits or signed values; scale them to 8 or 16 bits",
    )
    white = 4095 if "I;12" in stored else 65535
    scaled = (values.astype(np.int64) * 255 // 4095 if white == 4095 else values >> 8).astype(np.uint8)
    mask = values == transparent if isinstance(transparent, int) else None
    return _over_white(_with_black_zero(opened, scaled), mask), float(values.max()) / white


def _with_black_zero(opened: Image.Image, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels, inverted where a TIFF says that 0 is white. Pillow inverts those of 8 bits alone."""
    return 255 - grey if getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == 0 else grey


def _over_white(grey: NDArray[np.uint8], transparent: NDArray[np.bool_] | None) -> Image.Image:
    return Image.fromarray(grey if transparent is None else np.where(transparent, 255, grey).astype(np.uint8))
