#!/usr/bin/env bash
# Pillow 13.0.0: whether a TIFF's numbers keep their sign depends on their size. Signed samples of 16 and 32 bits open with
# their values, in mode I. Signed samples of 8 bits open in mode L with 256 added to the negative ones: -1 is then the
# brightest pixel. Unsigned samples of 32 bits open in mode I, where those from 2147483648 on are negative.
#
# Seen with Pillow 13.0.0 and 11.0.0:
#     signed, 8 bits, [-1, -100, 100]: L [255, 156, 100]
#     signed, 16 bits, [-1, -100, 100]: I [-1, -100, 100]
#     signed, 32 bits, [-1, -100, 100]: I [-1, -100, 100]
#     unsigned, 32 bits, [0, 5, 3000000000]: I [0, 5, -1294967296]
# Around it: read image.tag_v2[339] (SampleFormat: 1 unsigned, 2 signed), and numpy.asarray(image).view of that type.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import io
import struct

from PIL import Image


def read(bits, sample_format, pixels):
    """A TIFF of one row of three pixels, opened: its mode and its numbers."""
    fields = {256: 3, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(pixels), 339: sample_format}
    directory = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in fields.items())
    pixels += b"\0" * (len(pixels) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels
    file = io.BytesIO(head + struct.pack("<H", len(fields)) + directory + bytes(4))
    with Image.open(file) as image:
        return f"{image.mode} {[image.getpixel((x, 0)) for x in range(3)]}"


for bits, code in ((8, "b"), (16, "h"), (32, "i")):
    print(f"signed, {bits} bits, [-1, -100, 100]: {read(bits, 2, struct.pack(f'<3{code}', -1, -100, 100))}")
print(f"unsigned, 32 bits, [0, 5, 3000000000]: {read(32, 1, struct.pack('<3I', 0, 5, 3000000000))}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "signed, 8 bits, [-1, -100, 100]: L [255, 156, 100]
signed, 16 bits, [-1, -100, 100]: I [-1, -100, 100]
signed, 32 bits, [-1, -100, 100]: I [-1, -100, 100]
unsigned, 32 bits, [0, 5, 3000000000]: I [0, 5, -1294967296]" ]]
