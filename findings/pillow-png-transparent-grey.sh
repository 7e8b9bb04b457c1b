#!/usr/bin/env bash
# Pillow 13.0.0: the one transparent value of a PNG (its tRNS chunk) is compared with pixels that were scaled to 8 bits
# in between, while the value itself is not scaled. Right for 1 and 8 bits per sample; for others, convert("RGBA") gives
#  - 2 and 4 bits, grey: nothing is transparent (unless the value is 0), since 2 of 0..3 is looked for where 170 stands;
#  - 16 bits, grey: pixels are cut at 255, the value to its low byte, so the pixel with the value (23130) stays opaque
#    and another (90) becomes transparent.
#
# Seen with Pillow 13.0.0 and 11.0.0, alpha of pixels, where the second alone should be 0:
#     2 bits, value 2 of [1, 2, 3]: [255, 255, 255]
#     4 bits, value 5 of [0, 5, 15]: [255, 255, 255]
#     8 bits, value 5 of [0, 5, 90]: [255, 0, 255]
#     16 bits, value 23130 of [0, 23130, 90]: [255, 255, 0]
# Around it: compare the pixels as opened, before convert, with info["transparency"] times 85 (2 bits), 17 (4 bits) or 1.
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


for bits, pixels in ((2, [1, 2, 3]), (4, [0, 5, 15]), (8, [0, 5, 90]), (16, [0, 23130, 90])):
    row = "".join(f"{pixel:0{bits}b}" for pixel in pixels)
    row = row.ljust(-(-len(row) // 8) * 8, "0")
    row = int(row, 2).to_bytes(len(row) // 8, "big")
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, bits, 0, 0, 0, 0))
    file += chunk(b"tRNS", struct.pack(">H", pixels[1]))
    file += chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    alpha = Image.open(io.BytesIO(file)).convert("RGBA").getchannel("A").tobytes()
    print(f"{bits} bits, value {pixels[1]} of {pixels}: {list(alpha)}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "2 bits, value 2 of [1, 2, 3]: [255, 255, 255]
4 bits, value 5 of [0, 5, 15]: [255, 255, 255]
8 bits, value 5 of [0, 5, 90]: [255, 0, 255]
16 bits, value 23130 of [0, 23130, 90]: [255, 255, 0]" ]]
