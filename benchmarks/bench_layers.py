"""One layer, forward and forward + backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.cases import BATCHES, LAYERS, Layer, LayerCase
from benchmarks.side_by_side import side_by_side

layers = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
batches = pytest.mark.parametrize("batch", BATCHES)


@batches
@layers
def bench_forward(benchmark: Any, layer: Layer, batch: int) -> None:
    case = LayerCase(layer, batch, torch.float32)
    side_by_side(benchmark, case.forward(), case.flops, case.traffic)


@batches
@layers
def bench_forward_backward(benchmark: Any, layer: Layer, batch: int) -> None:
    case = LayerCase(layer, batch, torch.float32)
    side_by_side(benchmark, case.forward_backward(), 3 * case.flops, 3 * case.traffic, case.dtype)


@layers
def bench_forward_backward_bfloat16(benchmark: Any, layer: Layer) -> None:
    case = LayerCase(layer, 64, torch.bfloat16)
    side_by_side(benchmark, case.forward_backward(), 3 * case.flops, 3 * case.traffic, case.dtype)


@layers
def bench_forward_backward_float16(benchmark: Any, layer: Layer) -> None:
    case = LayerCase(layer, 64, torch.float16)
    side_by_side(benchmark, case.forward_backward(), 3 * case.flops, 3 * case.traffic, case.dtype)
