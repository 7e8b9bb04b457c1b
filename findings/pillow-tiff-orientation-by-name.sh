#!/usr/bin/env bash
# Pillow 13.0.0: a TIFF that is turned by a quarter (Orientation 5 to 8) comes out scrambled if it is opened by its name,
# and right if the same file is opened as a file object.
#
# It takes an uncompressed image in one strip, not square, of a mode that Pillow maps into memory: L, P, I;16, RGBA, CMYK
# (not 1, LA, RGB, I, F). Pillow reads the pixels of such a file with the width and height of the picture after the
# turn, then turns it: rows break in the wrong places, and the size changes back on load. Nothing is raised.
#
# Seen with Pillow 13.0.0, 12.3.0, 12.0.0, 11.3.0 and 11.0.0; right in 10.4.0:
#     by name: size 2x3 before load, then 3x2 [50, 30, 10, 60, 40, 20]
#     by file: size 2x3 before load, then 2x3 [40, 10, 50, 20, 60, 30]
# Around it: Image.open(io.BytesIO(path.read_bytes())), or a compressed file.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import sys

from PIL import ExifTags, Image

name = sys.argv[1]
exif = Image.Exif()
exif[ExifTags.Base.Orientation] = 6  # shown a quarter turn clockwise: column by column, each from the bottom up
stored = Image.frombytes("L", (3, 2), bytes([10, 20, 30, 40, 50, 60]))
stored.save(name, exif=exif)
for way, image in (("by name", Image.open(name)), ("by file", Image.open(open(name, "rb")))):
    before = "{}x{}".format(*image.size)
    image.load()
    print(f"{way}: size {before} before load, then {image.width}x{image.height} {list(image.tobytes())}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py" "$folder/turned.tif")
echo "$seen"
[[ $seen == *"by name: size 2x3 before load, then 3x2 [50, 30, 10, 60, 40, 20]"* &&
   $seen == *"by file: size 2x3 before load, then 2x3 [40, 10, 50, 20, 60, 30]"* ]]
