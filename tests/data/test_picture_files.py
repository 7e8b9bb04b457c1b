"""One picture file is read upright, in the colours that it stores, and at its depth; or it is refused by name."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from fused_gan.base.errors import UserError
from fused_gan.data import load
from helpers.picture_bytes import GREY_ALPHA, RGB, pgm, png, ppm, saved, tiff_of_12_bits, tiff_with_white_zero

RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
BYTES = (RAMP >> 8).astype(np.uint8)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP // 2], -1)


def read(folder: Path, name: str, content: bytes) -> Any:
    """The pixels (H, W) or (H, W, 3) of a folder with this picture alone."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    pixels = load(str(folder)).images[0].permute(1, 2, 0).numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png(RAMP)),
        ("a.pgm", pgm(RAMP, 65535)),
        ("a.tif", saved(RAMP, "TIFF")),
        ("a.tif", saved((RAMP / 65535).astype(np.float32), "TIFF")),
        ("a.pnm", pgm(RAMP >> 4, 4095)),
        ("a.tiff", tiff_of_12_bits(RAMP >> 4)),
    ],
)
def test_more_than_8_bits_are_scaled_by_the_depth_that_the_file_says(tmp_path: Path, name: str, content: bytes) -> None:
    pixels = read(tmp_path, name, content)
    assert pixels.shape == (8, 8)
    assert np.abs(pixels.astype(int) - BYTES).max() <= 1
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("pixels", [BYTES, RAMP, (RAMP / 65535).astype(np.float32)])
def test_a_tiff_whose_zero_is_white_is_no_negative(tmp_path: Path, pixels: Any) -> None:
    shown = read(tmp_path, "a.tif", tiff_with_white_zero(pixels))
    assert np.abs(shown.astype(int) - (255 - BYTES)).max() <= 1


def test_colours_of_16_bits_are_scaled_too(tmp_path: Path) -> None:
    for name, content in (("a.png", png(COLOUR, RGB)), ("a.ppm", ppm(COLOUR, 65535))):
        assert np.abs(read(tmp_path / name, name, content).astype(int) - (COLOUR >> 8)).max() <= 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png(RAMP >> 4)),
        ("a.pgm", pgm(RAMP >> 4, 65535)),
        ("a.tif", saved(RAMP >> 4, "TIFF")),
        ("a.png", png(COLOUR >> 4, RGB)),
        ("a.ppm", ppm(COLOUR >> 4, 65535)),
        ("a.png", png(np.stack([RAMP >> 4, RAMP * 0 + 65535], -1), GREY_ALPHA)),
        ("a.png", png(RAMP >> 8)),
        ("a.tif", saved((RAMP / 65535 / 255).astype(np.float32), "TIFF")),
    ],
)
def test_fewer_bits_than_the_file_has_place_for_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(UserError, match=rf"expected pictures that use their range, got [0-9.]+% of it .* in {name}"):
        read(tmp_path, name, content)


def test_the_brightest_picture_of_a_folder_says_whether_the_range_is_used(tmp_path: Path) -> None:
    (tmp_path / "dark.png").write_bytes(png(RAMP >> 4))
    (tmp_path / "black.png").write_bytes(png(RAMP * 0))
    (tmp_path / "light.png").write_bytes(png(RAMP))
    assert load(str(tmp_path)).images.amax((1, 2, 3)).tolist() == [0, 15, 255]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tif", saved(RAMP.astype(np.int32), "TIFF"), "expected at most 16 bits per value, unsigned"),
        ("a.tif", saved((RAMP / 256).astype(np.float32), "TIFF"), "expected floating-point values of 0…1"),
        ("a.tif", saved(np.full((8, 8), np.nan, np.float32), "TIFF"), "expected floating-point values of 0…1"),
        ("a.png", png(COLOUR, RGB, (0, 65535, 0)), "a transparent colour of 16 bits per value"),
        ("a.png", saved(Image.fromarray(BYTES > 90).convert("L").point(lambda value: value // 255), "PNG"),
         "expected pixels of 0…255, got 0 and 1 alone; multiply them by 255"),
    ],
)  # fmt: skip
def test_values_of_which_nothing_says_what_is_white_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        read(tmp_path, name, content)
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_value_of_a_grey_png_is_white_at_every_depth(tmp_path: Path, depth: int) -> None:
    values = np.arange(64).reshape(8, 8) % 2**depth if depth < 16 else RAMP
    top = 2**depth - 1
    for transparent in (0, int(values[0, 1])):
        pixels = read(tmp_path, "a.png", png(values, transparent=(transparent,), depth=depth))
        expected = np.where(values == transparent, 255, values * 255 // top if depth < 16 else values >> 8)
        assert np.array_equal(pixels, expected)


def grey_files() -> dict[str, bytes]:
    picture = Image.fromarray(BYTES)
    palette = Image.fromarray(BYTES // 4).convert("P")
    palette.putpalette([value for index in range(256) for value in (index * 4 % 256,) * 3])
    return {
        "gif": saved(BYTES, "GIF"),
        "palette.png": saved(picture.convert("P"), "PNG"),
        "palette of greys.png": saved(palette, "PNG"),
        "transparent palette.png": saved(picture.convert("P"), "PNG", transparency=7),
        "grey and alpha.png": saved(picture.convert("LA"), "PNG"),
        "grey and alpha of 16 bits.png": png(np.stack([RAMP, RAMP * 0 + 65535], -1), GREY_ALPHA),
        "black and white.tif": saved(BYTES > 90, "TIFF"),
        "grey.jpg": saved(BYTES, "JPEG"),
        "grey.bmp": saved(BYTES, "BMP"),
    }


@pytest.mark.parametrize("name", grey_files())
def test_grey_stays_grey(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"a.{name}", grey_files()[name]).ndim == 2


def test_a_palette_with_a_colour_and_equal_channels_are_colours(tmp_path: Path) -> None:
    coloured = Image.fromarray(COLOUR[..., :3].astype(np.uint8)).convert("P")
    for name, content in (("a.png", saved(coloured, "PNG")), ("b.png", saved(np.stack([BYTES] * 3, -1), "PNG"))):
        assert read(tmp_path / name, name, content).ndim == 3


def with_exif(entries: dict[int, bytes], orientation: int) -> bytes:
    """A JPEG whose EXIF block has raw entries: a type, a count and four bytes for each tag."""
    entries = entries | {0x0112: struct.pack("<HIHH", 3, 1, orientation, 0)}
    table = b"".join(struct.pack("<H", tag) + entry for tag, entry in sorted(entries.items()))
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return saved(np.repeat(np.repeat(BYTES, 2, 0), 4, 1), "JPEG", exif=block, quality=95)


@pytest.mark.parametrize(
    "odd",
    [
        {0x010F: struct.pack("<HII", 4, 1, 0xFFFFFFFF)},  # the maker, as a number
        {0x8769: struct.pack("<HII", 4, 1, 0xFFFFFFF0)},  # a directory behind the end of the file
        {0x011A: struct.pack("<HII", 5, 1, 0xFFFF)},  # a resolution that is not there
        {0x9000: struct.pack("<HI4s", 2, 4, b"0230")},  # a version as text
        {0x0132: struct.pack("<HII", 13, 1, 5)},  # a date as a directory
    ],
)
def test_of_the_exif_tags_the_orientation_alone_is_read(tmp_path: Path, odd: dict[int, bytes]) -> None:
    upright = read(tmp_path / "upright", "a.jpg", with_exif({}, 1))
    assert upright.shape == (16, 32)
    turned = read(tmp_path / "turned", "a.jpg", with_exif(odd, 6))
    assert np.array_equal(turned, np.rot90(upright, -1))


def test_orientations_of_each_kind_of_file_turn_once(tmp_path: Path) -> None:
    wide = np.repeat(BYTES, 2, 1)
    turns = {1: wide, 2: wide[:, ::-1], 3: wide[::-1, ::-1], 4: wide[::-1], 5: wide.T, 6: np.rot90(wide, -1)}
    turns |= {7: wide[::-1, ::-1].T, 8: np.rot90(wide)}
    for kind in ("PNG", "TIFF"):
        for orientation, expected in turns.items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            content = saved(wide, kind, **({"exif": exif} if kind == "PNG" else {"tiffinfo": {0x0112: orientation}}))
            assert np.array_equal(read(tmp_path / f"{kind}{orientation}", f"a.{kind.lower()}", content), expected)


def test_each_ending_of_the_kinds_that_are_read_is_read(tmp_path: Path) -> None:
    kinds = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "webp": "WEBP", "bmp": "BMP"}
    kinds |= {"gif": "GIF", "tif": "TIFF", "tiff": "TIFF", "pgm": "PPM", "ppm": "PPM", "pbm": "PPM", "pnm": "PPM"}
    if features.check("avif"):
        kinds["avif"] = "AVIF"
    for ending, kind in kinds.items():
        (tmp_path / f"{ending}.{ending.upper()}").write_bytes(saved(BYTES, kind))
    data = load(str(tmp_path))
    assert len(data.images) == len(kinds)
    assert not data.passed_over


def test_pages_and_frames_behind_the_first_are_counted_and_named(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.rot90(BYTES, turn)) for turn in range(4)]
    for name, kind in (("b.tif", "TIFF"), ("a.gif", "GIF")):
        (tmp_path / name).write_bytes(saved(pages[0], kind, save_all=True, append_images=pages[1:]))
    (tmp_path / "c.png").write_bytes(saved(BYTES, "PNG"))
    data = load(str(tmp_path))
    assert np.array_equal(data.images[1, 0], BYTES)
    assert list(map(str, data.passed_over)) == ["pages or frames behind the first: 6 (a.gif, b.tif)"]


def test_any_failure_of_the_library_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (struct.error("unpack"), IndexError(), MemoryError(), KeyError("tag"), RecursionError("deep")):

        def fail(file: object, error: Exception = error) -> Image.Image:
            raise error

        monkeypatch.setattr(Image, "open", fail)
        with pytest.raises(UserError, match=r"a\.png: cannot be read as a picture: .+") as refusal:
            read(tmp_path, "a.png", b"")
        assert refusal.value.__cause__ is error
