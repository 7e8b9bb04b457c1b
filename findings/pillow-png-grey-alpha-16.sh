#!/usr/bin/env bash
# Pillow 13.0.0: a grey PNG with alpha opens in mode LA with 8 bits per sample and in mode RGBA with 16 bits, where only the
# high byte of each sample is left. Grey without alpha keeps its 16 bits (mode I;16): adding an alpha channel to a file
# takes it from one channel of 16 bits to four of 8, and code that tells grey from colour by the mode takes it for colour.
#
# Seen with Pillow 13.0.0 and 11.0.0, grey 0x1234, alpha 0x80ff (8 bits: 0x12, 0x80):
#     8 bits: LA (18, 128)
#     16 bits: RGBA (18, 18, 18, 128)
#     16 bits without alpha: I;16 4660
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import io
import struct
import zlib

from PIL import Image


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


for name, bits, colour, pixel in (
    ("8 bits", 8, 4, "1280"),
    ("16 bits", 16, 4, "123480ff"),
    ("16 bits without alpha", 16, 0, "1234"),
):
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, colour, 0, 0, 0))
    file += chunk(b"IDAT", zlib.compress(b"\0" + bytes.fromhex(pixel))) + chunk(b"IEND", b"")
    image = Image.open(io.BytesIO(file))
    print(f"{name}: {image.mode} {image.getpixel((0, 0))}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "8 bits: LA (18, 128)
16 bits: RGBA (18, 18, 18, 128)
16 bits without alpha: I;16 4660" ]]
