"""Picture files as Pillow does not write them: PNGs of any depth with a transparent value, TIFFs of any depth."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

GREY, RGB, GREY_ALPHA = 0, 2, 4  # colour types of a PNG
_CHANNELS = {GREY: 1, RGB: 3, GREY_ALPHA: 2}


def png(pixels: Any, colour: int = GREY, transparent: tuple[int, ...] | None = None, depth: int = 16) -> bytes:
    """A PNG of 16 bits per value, or of a grey of fewer bits whose rows are whole bytes."""
    height, width = pixels.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in pixels]
    else:
        bits = (pixels[..., None] >> np.arange(depth)[::-1]) & 1
        rows = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if transparent is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def pgm(pixels: Any, largest: int) -> bytes:
    """A binary PGM of 16 bits per value that names its largest value."""
    height, width = pixels.shape
    return b"P5 %d %d %d\n" % (width, height, largest) + pixels.astype(">u2").tobytes()


def ppm(pixels: Any, largest: int) -> bytes:
    """A binary PPM of 16 bits per value that names its largest value."""
    height, width, _ = pixels.shape
    return b"P6 %d %d %d\n" % (width, height, largest) + pixels.astype(">u2").tobytes()


def saved(pixels: Any, kind: str, **options: Any) -> bytes:
    """A picture as Pillow writes it."""
    file = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff_with_white_zero(pixels: Any) -> bytes:
    """A grey TIFF of which the tag PhotometricInterpretation says that 0 is white."""
    content = saved(pixels, "TIFF")
    entry = struct.pack("<HHI", 0x0106, 3, 1)  # tag, type, count; the value follows
    assert content.count(entry + b"\1") == 1
    return content.replace(entry + b"\1", entry + b"\0")


def tiff_of_12_bits(pixels: Any) -> bytes:
    """A grey TIFF of 12 bits per value, two values in three bytes. The width is even."""
    height, width = pixels.shape
    pairs = pixels.reshape(-1, 2).astype(np.uint32)
    joined = (pairs[:, 0] << 12) | pairs[:, 1]
    data = np.stack([joined >> 16, joined >> 8, joined], -1).astype(np.uint8).tobytes()
    entries = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries.append((279, len(data)))
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    directory = struct.pack("<H", len(entries)) + table + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory
