#!/usr/bin/env bash
# torch 2.13.0: two activations have float64 gradients that are right to 8 digits only. The gradient of celu divides by
# alpha through 1 / alpha as a number of float32, and that of hardsigmoid on CPU multiplies by 1 / 6 as such a number.
# torch.autograd.gradcheck, whose tolerance is 1e-5, passes all the same. And hardsigmoid has no second derivative at
# all: a gradient penalty through it raises.
#
# Seen: celu, alpha 0.85: relative error of the gradient 5.4e-08; hardsigmoid: 3.0e-08; "derivative for
# aten::hardsigmoid_backward is not implemented".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import torch
from torch.nn import functional as F


def error(function, derivative):
    z = torch.linspace(-2.5, -0.1, 64, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, z)
    (gradient,) = torch.autograd.grad(function(z).sum(), z)
    return ((gradient - derivative(z)) / derivative(z)).abs().max().item()


celu = error(lambda z: F.celu(z, 0.85), lambda z: torch.exp(z / 0.85))
hardsigmoid = error(F.hardsigmoid, lambda z: torch.full_like(z, 1 / 6))
print(f"celu {celu:.1e}, hardsigmoid {hardsigmoid:.1e}")
assert 1e-9 < celu < 1e-6 and 1e-9 < hardsigmoid < 1e-6

z = torch.zeros(3, dtype=torch.float64, requires_grad=True)
(gradient,) = torch.autograd.grad(F.hardsigmoid(z).sum(), z, create_graph=True)
try:
    gradient.sum().backward()
except RuntimeError as error:
    print(error)
else:
    raise SystemExit("hardsigmoid has a second derivative now")
PYTHON
"$folder/venv/bin/python" "$folder/try.py" 2> /dev/null
