#!/usr/bin/env bash
# torch 2.13.0, CPU: what an activation gives for NaN and Inf depends on how many elements the tensor has, and on where
# the element lies in it. Whole vectors of a kernel's loop and the few elements behind them have different formulas:
#     gelu(inf) and gelu(3e38) in float32 are NaN and inf, but inf and 3e38 in a tensor of one element (and in float64)
#     the gradient of elu, selu and celu at NaN is NaN in a whole vector and dy (times the scale) behind it
#     the gradient of hardtanh and relu6 at NaN is 0 in a whole vector and dy behind it
# So the same numbers in a tensor of another length give other results, and a comparison element by element with a
# kernel of one's own fails in the tail alone.
#
# Seen on an AMD EPYC with AVX-512, tensors of 39 elements, first element and last:
#     elu' nan 1.0, selu' nan 1.0507..., celu' nan 1.0, hardtanh' 0.0 1.0, relu6' 0.0 1.0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import math

import torch
from torch.nn import functional as F


def ends(values):
    return values[0].item(), values[-1].item()


def gradient(function):
    # 39 elements: two vectors of 16 floats (or four of 8) and a rest.
    z = torch.full((39,), math.nan, requires_grad=True)
    function(z).backward(torch.ones(39))
    return ends(z.grad)


infinite, large = torch.tensor([math.inf]), torch.tensor([3e38])
print("one element: gelu(inf)", F.gelu(infinite).item(), "gelu(3e38)", F.gelu(large).item())
print("39 elements: gelu(inf)", *ends(F.gelu(infinite.repeat(39))), "gelu(3e38)", *ends(F.gelu(large.repeat(39))))
assert F.gelu(infinite).isinf() and F.gelu(large).isfinite()
assert F.gelu(infinite.repeat(39)).isnan().all() and F.gelu(large.repeat(39)).isinf().all()
for function in (F.elu, F.selu, F.celu):
    first, last = gradient(function)
    print(f"{function.__name__}' at nan", first, last)
    assert math.isnan(first) and last > 0
for function in (F.hardtanh, F.relu6):
    first, last = gradient(function)
    print(f"{function.__name__}' at nan", first, last)
    assert first == 0 and last == 1
PYTHON
"$folder/venv/bin/python" "$folder/try.py" 2> /dev/null
