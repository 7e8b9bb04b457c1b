#!/usr/bin/env bash
# torch 2.13.0, a processor without AVX-512: a matrix product in bfloat16 or float16 takes 3 to 120 times as long as
# casting both matrices to float32, multiplying, and casting the result back. The worst is a plain product of two
# dense matrices, which is what a linear layer's input gradient is. So training a network in bfloat16 on such a
# processor (Zen 3 and older, most desktops from Intel) is slower by an order of magnitude than in float32, and
# nothing says so.
#
# Seen on an AMD EPYC (Zen 3), one thread, x (256, 1024), w (784, 1024), g (256, 784), time ÷ time by way of float32:
#     torch.bfloat16: x @ w.T 4.5, g @ w 118.8, g.T @ x 5.3
#     torch.float16: x @ w.T 5.0, g @ w 33.7, g.T @ x 31.4
# The two variables let a newer processor behave like an older one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import statistics
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
x, w, g = torch.randn(256, 1024), torch.randn(784, 1024), torch.randn(256, 784)


def seconds(function):
    function()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


for dtype in (torch.bfloat16, torch.float16):
    ratios = []
    for a, b in ((x, w.T), (g, w), (g.T, x)):
        a, b = a.to(dtype), b.to(dtype)
        ratios.append(seconds(lambda: a @ b) / seconds(lambda: (a.float() @ b.float()).to(dtype)))
    print(f"{dtype}: x @ w.T {ratios[0]:.1f}, g @ w {ratios[1]:.1f}, g.T @ x {ratios[2]:.1f}")
    assert min(ratios) > 2 and ratios[1] > 10
PYTHON
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 "$folder/venv/bin/python" "$folder/try.py" 2> /dev/null
