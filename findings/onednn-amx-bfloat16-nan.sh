#!/usr/bin/env bash
# torch 2.13.0 (oneDNN 3.12), bfloat16 on processors with AMX: a NaN in one row of a batch comes out of a linear layer in
# another row, too, where the rows' length is no multiple of 32. Row i of x Wᵀ is a function of row i of x alone, so nobody
# would look for the second NaN in the product.
#
# Seen on an Intel Xeon (Sapphire Rapids family, amx_bf16), torch 2.13.0:
#     rows with NaN: [34, 35], expected [35]
# oneDNN knows it (its issues 5717 and 5603): the kernel loads whole tiles of 32 numbers, and multiplies what lies behind
# a row's end by zero. With ONEDNN_MAX_CPU_ISA=AVX512_CORE_FP16 the rows stay apart.
set -euo pipefail

if ! grep -qw amx_bf16 /proc/cpuinfo; then
  echo "NOT RUN: this processor has no amx_bf16"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import torch

torch.manual_seed(0)
x, w = torch.randn(70, 9).bfloat16(), torch.randn(21, 9).bfloat16()
x[35] = float("nan")
rows = torch.nn.functional.linear(x, w).isnan().any(1).nonzero().flatten().tolist()
print(f"torch {torch.__version__}: rows with NaN: {rows}, expected [35]")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py")
limited=$(ONEDNN_MAX_CPU_ISA=AVX512_CORE_FP16 "$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
echo "without AMX: $limited"
[[ $seen == *"rows with NaN: [34, 35],"* && $limited == *"rows with NaN: [35],"* ]]
