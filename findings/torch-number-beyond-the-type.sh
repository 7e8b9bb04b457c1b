#!/usr/bin/env bash
# torch 2.13.0, CPU: what a Python number does that the tensor's type cannot hold depends on the function, not on the
# number. For float16 (largest number 65504) and 1e5:
#     clamp, hardtanh, full_like, masked_fill, threshold's value   RuntimeError: value cannot be converted to type ...
#     where, multiplication, leaky_relu's slope                    computed, the number as infinity
#     clamp with infinity itself, or with a tensor as its bound    computed, and nothing is clamped
#     clamp on the meta device                                     no error, so an inferred shape proves nothing
# So a network with a bound that is meant never to bind runs in float32 and bfloat16, and while its shapes are inferred,
# and raises in float16 alone; 1e39 raises in float32 and bfloat16 too.
#
# Seen: RuntimeError for the first row, inf from where(x > 0, x, 1e5), x itself from clamp(-inf, inf) and from
# clamp(max=tensor(1e5)).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import math

import torch
from torch.nn import functional as F

x, far = torch.tensor([1.0, -2.0], dtype=torch.float16), 1e5
calls = {
    "clamp": lambda: x.clamp(-far, far),
    "hardtanh": lambda: F.hardtanh(x, -far, far),
    "full_like": lambda: torch.full_like(x, far),
    "masked_fill": lambda: x.masked_fill(x < 0, far),
    "threshold": lambda: F.threshold(x, 0.0, far),
    "where": lambda: torch.where(x > 0, x, far),
    "multiplication": lambda: x * far,
    "leaky_relu": lambda: F.leaky_relu(x, far),
    "clamp with infinity": lambda: x.clamp(-math.inf, math.inf),
    "clamp with a tensor": lambda: x.clamp(max=torch.tensor(far)),
    "clamp on meta": lambda: x.to("meta").clamp(-far, far),
}
found = {}
for name, call in calls.items():
    try:
        result = call()
        found[name] = "shape" if result.is_meta else "inf" if result.isinf().any() else "x" if result.equal(x) else "?"
    except RuntimeError as error:
        assert "without overflow" in str(error)
        found[name] = "RuntimeError"
    print(f"{name}: {found[name]}")
assert {name for name, what in found.items() if what == "RuntimeError"} == set(list(calls)[:5])
assert {name for name, what in found.items() if what == "inf"} == set(list(calls)[5:8])
assert found["clamp with infinity"] == found["clamp with a tensor"] == "x" and found["clamp on meta"] == "shape"
for dtype in (torch.float32, torch.bfloat16):
    try:
        x.to(dtype).clamp(max=1e39)
        raise SystemExit(f"clamp(max=1e39) computed in {dtype}")
    except RuntimeError as error:
        print(f"clamp(max=1e39) in {dtype}: {error}")
PYTHON
"$folder/venv/bin/python" "$folder/try.py" 2> /dev/null
