"""Damages picture files, and other files of images, and reads them: nothing but `UserError` may come of it.

The test reads a few hundred. For more: python tests/helpers/damaged_files.py 60000 [SEED]
"""

from __future__ import annotations

import collections
import random
import struct
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, features

from fused_gan.base.errors import UserError
from fused_gan.data import load
from helpers.picture_bytes import pgm, png, saved

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]


def exif() -> bytes:
    """An EXIF block with an orientation, texts, fractions and a directory within."""
    block = Image.Exif()
    block[0x0112], block[0x010F], block[0x011A] = 6, "maker", 72.5
    block.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return block.tobytes()


def samples() -> dict[str, list[bytes]]:
    """Sound files by the ending of their names: eight kinds of pictures, AVIF where Pillow has it, and four others."""
    pages = {"save_all": True, "append_images": [Image.fromarray(PIXELS[::-1])]}
    found = {
        "png": [saved(PIXELS, "PNG", exif=exif()), saved(Image.fromarray(PIXELS).convert("P"), "PNG", transparency=3)],
        "jpg": [saved(PIXELS, "JPEG", exif=exif()), saved(GREY, "JPEG", progressive=True)],
        "webp": [saved(PIXELS, "WEBP", exif=exif()), saved(PIXELS, "WEBP", **pages)],
        "bmp": [saved(PIXELS, "BMP"), saved(Image.fromarray(PIXELS).convert("P"), "BMP")],
        "gif": [saved(GREY, "GIF"), saved(PIXELS, "GIF", **pages)],
        "tif": [saved(PIXELS, "TIFF", exif=exif()), saved(PIXELS, "TIFF", **pages)],
        "ppm": [saved(PIXELS, "PPM"), b"P3 3 1 255\n1 2 3 4 5 6 7 8 9\n"],
        "pgm": [pgm(GREY.astype(np.uint16) * 257, 65535), b"P2 3 1 15\n1 2 3\n"],
    }
    found["png"].append(png(GREY.astype(np.uint16) * 257, transparent=(257,)))
    found["tif"] += [saved(PIXELS, "TIFF", compression=way) for way in ("tiff_lzw", "jpeg", "tiff_adobe_deflate")]
    found["tif"] += [saved(GREY.astype(np.uint16) * 257, "TIFF"), saved((GREY / 255).astype(np.float32), "TIFF")]
    if features.check("avif"):
        found["avif"] = [saved(PIXELS, "AVIF", exif=exif())]
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "a.npz", images=PIXELS[None], labels=[3])
        np.savez_compressed(Path(folder) / "b.npz", train_images=PIXELS[None], train_labels=[[3]])
        found["npz"] = [(Path(folder) / name).read_bytes() for name in ("a.npz", "b.npz")]
    found["images-idx3-ubyte"] = [bytes((0, 0, 8, 3)) + struct.pack(">3I", 1, *GREY.shape) + GREY.tobytes()]
    found["csv"] = [b"label,a,b,c,d\n7,0,1,2,255\n", b"3,0,1,2,255\n"]
    found["data_batch_1.bin"] = [bytes([3]) + bytes(range(256)) * 12]
    return found


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four places changed, cut out, repeated or put in, or without an end."""
    bytes_ = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        # Half of the damage hits the first bytes, where headers are.
        place = chance.randrange(min(len(bytes_), 160) if chance.random() < 0.5 else len(bytes_))
        length = chance.randint(1, 8)
        kind = chance.randrange(6)
        if kind == 0:
            bytes_[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            bytes_[place : place + length] = chance.randbytes(length)
        elif kind == 2:
            bytes_[place : place + length] = chance.choice([b"\xff", b"\0", b"\x7f"]) * length
        elif kind == 3:
            del bytes_[place : place + length]
        elif kind == 4:
            bytes_[place:place] = bytes_[place : place + length]
        else:
            del bytes_[max(place, 1) :]
        if not bytes_:
            return b""
    return bytes(bytes_)


def failures(count: int, seed: int, folder: Path) -> Iterator[tuple[str, bytes, str]]:
    """Read `count` damaged files in a folder; yield name, content and traceback of each that ends in another exception.

    Also read each file as it is, because damage to what nobody can read would show nothing.
    """
    chance, kinds = random.Random(seed), samples()
    for ending, sound in kinds.items():
        for content in sound:
            _read(folder, ending, content)
    names = list(kinds)
    for number in range(count):
        ending = names[number % len(names)]
        content = damaged(chance.choice(kinds[ending]), chance)
        try:
            _read(folder, ending, content)
        except UserError:
            continue
        except Exception:
            yield ending, content, traceback.format_exc()


def _read(folder: Path, ending: str, content: bytes) -> None:
    path = folder / (ending if ending.endswith(".bin") else f"a.{ending}")
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(str(folder if path.suffix != ".npz" and path.suffix != ".csv" else path))
    finally:
        path.unlink()


def main() -> int:
    """Read as many files as the command line says, print each new failure, and return whether there was one."""
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    seen: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for ending, content, text in failures(count, seed, Path(folder)):
            last = f"{ending}: {text.splitlines()[-1][:80]}"
            seen[last] += 1
            if seen[last] == 1:
                print(text, content[:400])
    print(f"{count:,} files, {sum(seen.values())} failures", *seen.items(), sep="\n")
    return int(bool(seen))


if __name__ == "__main__":
    sys.exit(main())
