#!/usr/bin/env bash
# opacus 1.6.0: its wheel installs packages `benchmarks` and `examples` beside `opacus`. A project's own folder
# benchmarks/ without an __init__.py is no longer importable next to it, even where the project comes FIRST on sys.path:
# Python takes a regular package from anywhere on the path before a folder without __init__.py.
#
# Seen with opacus 1.6.0 (the wheel alone, nothing of it imported):
#     top level of the wheel: benchmarks examples opacus
#     without opacus: mine
#     with opacus: ModuleNotFoundError: No module named 'benchmarks.speed'
# Around it: an __init__.py in the project's folder, and the project before site-packages on sys.path.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
wheel_of="pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: opacus==1.6.0"
(cd "$folder" && "$folder/venv/bin/python" -m $wheel_of 2> /dev/null)
mkdir -p "$folder/project/benchmarks"
echo 'print("mine")' > "$folder/project/benchmarks/speed.py"
top=$("$folder/venv/bin/python" - "$folder"/opacus-1.6.0-*.whl << 'PYTHON'
import sys
import zipfile

wheel = zipfile.ZipFile(sys.argv[1])
record = wheel.read("opacus-1.6.0.dist-info/RECORD").decode().splitlines()
print(*sorted({line.split("/")[0] for line in record} - {"opacus-1.6.0.dist-info"}))
PYTHON
)
cd "$folder/project"  # `python -m` puts it first on sys.path
alone=$("$folder/venv/bin/python" -m benchmarks.speed)
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$folder"/opacus-1.6.0-*.whl 2> /dev/null
beside=$("$folder/venv/bin/python" -c "import benchmarks.speed" 2>&1 | tail -n 1 || true)
echo "top level of the wheel: $top"
echo "without opacus: $alone"
echo "with opacus: $beside"
[[ $top == "benchmarks examples opacus" && $alone == mine &&
   $beside == "ModuleNotFoundError: No module named 'benchmarks.speed'" ]]
