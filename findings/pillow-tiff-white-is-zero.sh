#!/usr/bin/env bash
# Pillow 13.0.0: a grey TIFF whose 0 means white (PhotometricInterpretation 0) is turned to black is 0 on opening with 1, 4
# or 8 bits per sample, and left as it is with 16 bits or 32-bit floats. A reader that accepts all of them gets positives
# of the one kind and negatives of the other, and nothing in the image's mode or info tells them apart.
#
# Seen with Pillow 13.0.0 and 11.0.0, black is 0 beside white is 0, same stored numbers:
#     8 bits: L [0, 10, 255], L [255, 245, 0]
#     16 bits: I;16 [0, 10, 65535], I;16 [0, 10, 65535]
#     32 bits, float: F [0.0, 0.25, 1.0], F [0.0, 0.25, 1.0]
# Around it: read image.tag_v2[262] and turn modes I;16 and F oneself where it is 0.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import io
import struct

from PIL import Image


def read(interpretation, bits, sample_format, pixels):
    """A TIFF of one row of three pixels, opened: its mode and its numbers."""
    fields = {256: 3, 257: 1, 258: bits, 259: 1, 262: interpretation, 273: 8, 277: 1, 278: 1, 279: len(pixels)}
    fields[339] = sample_format
    directory = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in fields.items())
    pixels += b"\0" * (len(pixels) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels
    file = io.BytesIO(head + struct.pack("<H", len(fields)) + directory + bytes(4))
    with Image.open(file) as image:
        return f"{image.mode} {[image.getpixel((x, 0)) for x in range(3)]}"


for name, bits, sample_format, pixels in (
    ("8 bits", 8, 1, bytes([0, 10, 255])),
    ("16 bits", 16, 1, struct.pack("<3H", 0, 10, 65535)),
    ("32 bits, float", 32, 3, struct.pack("<3f", 0, 0.25, 1)),
):
    print(f"{name}: {read(1, bits, sample_format, pixels)}, {read(0, bits, sample_format, pixels)}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "8 bits: L [0, 10, 255], L [255, 245, 0]
16 bits: I;16 [0, 10, 65535], I;16 [0, 10, 65535]
32 bits, float: F [0.0, 0.25, 1.0], F [0.0, 0.25, 1.0]" ]]
