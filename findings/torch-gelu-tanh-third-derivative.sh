#!/usr/bin/env bash
# torch 2.13.0: the third derivative of gelu(approximate="tanh") is NaN for numbers from about 22 on in magnitude, where it
# is 0 but for rounding; the first two are right there. One such activation is enough to make the gradient of a penalty
# on second derivatives NaN everywhere. The same formula written out in other operators, and the exact gelu, have none.
#
# Seen, float64, at z = 2, 30 and -100: third derivative -0.0057, nan, nan; written out -0.0057, 0.0, 0.0.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import math

import torch
from torch.nn import functional as F


def derivatives(function):
    z = torch.tensor([2.0, 30.0, -100.0], dtype=torch.float64, requires_grad=True)
    value, found = function(z), []
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        found.append(value.detach())
    return found


def written_out(z):
    return z * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))


of_torch, formula, exact = (
    derivatives(f) for f in (lambda z: F.gelu(z, approximate="tanh"), written_out, F.gelu)
)
for order in range(3):
    print("order", order + 1, of_torch[order].tolist(), formula[order].tolist(), exact[order].tolist())
for order in range(2):
    assert torch.allclose(of_torch[order], formula[order])
assert torch.allclose(of_torch[2][0], formula[2][0]) and of_torch[2][1:].isnan().all()
assert formula[2].isfinite().all() and exact[2].isfinite().all()
PYTHON
"$folder/venv/bin/python" "$folder/try.py" 2> /dev/null
