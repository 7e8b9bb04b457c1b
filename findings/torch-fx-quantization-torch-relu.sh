#!/usr/bin/env bash
# torch 2.13.0, torch.ao.quantization.quantize_fx: which spelling of ReLU follows a Linear decides the numbers. nn.ReLU and
# F.relu are fused with it to one quantised LinearReLU, whose output steps cover the positive side alone. torch.relu and
# x.relu() are not: the layer's output is quantised before the ReLU, so about half of its steps go to what the ReLU throws
# away, and torch.relu runs on floats behind a dequantize. No warning says so; before quantisation they are equal.
#
# Seen with torch 2.13.0 (CPU), Linear(4, 4), qconfig mapping "x86", calibrated on the batch that is shown:
#     nn.ReLU: LinearReLU, step 0.0151; then dequantize
#     F.relu: LinearReLU, step 0.0151; then dequantize
#     torch.relu: Linear, step 0.0331; then dequantize, relu
#     x.relu(): Linear, step 0.0331; then relu, dequantize
#     46% of outputs differ between F.relu and torch.relu
# Conv1d behaves the same.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> /dev/null
cat > "$folder/try.py" << 'PYTHON'
import warnings

import torch
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

warnings.filterwarnings("ignore")  # that torch.ao.quantization moves to another package
torch.set_num_threads(1)


class Layer(torch.nn.Module):
    def __init__(self, relu):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)
        self.relu = relu

    def forward(self, x):
        return self.relu(self.linear(x))


torch.manual_seed(1)
x = torch.randn(256, 4)
relus = {"nn.ReLU": torch.nn.ReLU(), "F.relu": lambda y: torch.nn.functional.relu(y)}
relus |= {"torch.relu": lambda y: torch.relu(y), "x.relu()": lambda y: y.relu()}
results = {}
for name, relu in relus.items():
    model = prepare_fx(Layer(relu).eval(), get_default_qconfig_mapping("x86"), (x,))
    model(x)
    model = convert_fx(model)
    results[name] = model(x).detach()
    calls = [node for node in model.graph.nodes if node.op.startswith("call")]
    after = [getattr(node.target, "__name__", node.target) for node in calls[2:]]
    print(f"{name}: {type(model.linear).__name__}, step {model.linear.scale:.4f}; then {', '.join(after)}")
differ = (results["F.relu"] != results["torch.relu"]).float().mean()
print(f"{differ:.0%} of outputs differ between F.relu and torch.relu")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/try.py" 2> /dev/null)
echo "$seen"
[[ $seen == *"nn.ReLU: LinearReLU, step 0.0151; then dequantize
F.relu: LinearReLU, step 0.0151; then dequantize
torch.relu: Linear, step 0.0331; then dequantize, relu
x.relu(): Linear, step 0.0331; then relu, dequantize
"* && $seen != *$'\n'"0% of outputs"* ]]
