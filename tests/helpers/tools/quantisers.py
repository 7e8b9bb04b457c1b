"""torchao, PyTorch's own quantisation, and oneDNN's layout: each puts modules of its own in the place of layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from helpers.tools.table import LEFT_ALONE, Numbers, network, rounded, tool, unchanged, x


@tool("torchao: int8 weights", rounded, "torchao", FusedLinear=LEFT_ALONE)
def int8_weights(column: str) -> Numbers:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = network(column)
    quantize_(model, Int8WeightOnlyConfig())
    return [model(x()).detach()]


@tool("torchao: quantisation-aware training, prepared", rounded, "torchao", FusedLinear=LEFT_ALONE)
def quantisation_aware_training(column: str) -> Numbers:
    from torchao.quantization import PerGroup, quantize_
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

    model = network(column)
    weights = IntxFakeQuantizeConfig(torch.int4, granularity=PerGroup(16), is_symmetric=True)
    quantize_(model, QATConfig(weight_config=weights, step="prepare"))
    output = model(x())
    output.square().sum().backward()
    return [output.detach(), *(p.grad for p in model.parameters())]


@tool("torchao: float8 training", rounded, "torchao", FusedLinear=LEFT_ALONE)
def float8(column: str) -> Numbers:
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    model = convert_to_float8_training(network(column), config=Float8LinearConfig(emulate=True))
    output = model(x())
    output.square().sum().backward()
    return [output.detach(), *(p.grad for p in model.parameters())]


@tool("torch.ao.quantization.quantize_dynamic", rounded, FusedLinear=LEFT_ALONE)
def dynamic(column: str) -> Numbers:
    return [quantize_dynamic(network(column), {nn.Linear})(x()).detach()]


@tool("torch.ao.quantization.quantize_fx", rounded)
def quantize_fx(column: str) -> Numbers:
    prepared = prepare_fx(network(column).eval(), get_default_qconfig_mapping("x86"), (x(),))
    prepared(x())
    return [convert_fx(prepared)(x()).detach()]


@tool("torch.utils.mkldnn.to_mkldnn", unchanged, FusedLinear=LEFT_ALONE)
def mkldnn(column: str) -> Numbers:
    from torch.utils.mkldnn import to_mkldnn  # warns of its own age

    return [to_mkldnn(network(column).eval())(x()).detach()]
