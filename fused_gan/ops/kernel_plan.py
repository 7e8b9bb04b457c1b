"""Defines `fused_gan.plan`, which says which kernel runs for which shape, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fused_gan.ops import cuda_plan
from fused_gan.ops.library import DTYPES, native


@dataclass(frozen=True)
class Plan:
    """Which kernels run for one layer, and why."""

    shape: tuple[int, int, int]  # samples, in_features, out_features
    dtype: torch.dtype
    device: str
    forward: str
    backward: str

    def __str__(self) -> str:
        samples, depth, outputs = self.shape
        return (
            f"{samples} × {depth} → {outputs}, {str(self.dtype).removeprefix('torch.')}, {self.device}\n"
            f"  forward:  {self.forward}\n  backward: {self.backward}"
        )


def plan(
    layer_or_shape: nn.Module | tuple[int, int, int],
    samples: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Plan:
    """Return which kernels will run, and why.

    Args:
        layer_or_shape: an ``nn.Linear`` or a `FusedLinear` (then ``samples`` is needed), or ``(samples, in_features,
            out_features)``.
        samples: rows of the input, all leading dimensions multiplied.
        dtype: dtype of the tensors; None takes the layer's, or float32 without a layer.
        device: "cpu" or "cuda"; None takes the layer's, or the CPU without a layer.

    Raises:
        ValueError: a size is missing or negative, or the layer, the dtype or the device is not supported.
    """
    if isinstance(layer_or_shape, nn.Module):
        layer: Any = layer_or_shape
        if not all(hasattr(layer, name) for name in ("in_features", "out_features", "weight")):
            raise ValueError(f"layer: expected an nn.Linear or a FusedLinear, got {type(layer).__name__}")
        if samples is None:
            raise ValueError("samples: expected the number of input rows along with a layer, got None")
        shape = (samples, layer.in_features, layer.out_features)
        dtype, device = dtype or layer.weight.dtype, device or layer.weight.device
    else:
        if not isinstance(layer_or_shape, tuple) or len(layer_or_shape) != 3 or samples is not None:
            raise ValueError(f"shape: expected (samples, in_features, out_features) alone, got {layer_or_shape!r}")
        shape = layer_or_shape
    if any(not isinstance(size, int) or size < 0 for size in shape):
        raise ValueError(f"shape: expected whole numbers ≥ 0, got {shape}")
    dtype, kind = dtype or torch.float32, str(device or "cpu").partition(":")[0]
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(map(str, DTYPES))}, got {dtype}")
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {kind!r}")
    name = str(dtype).removeprefix("torch.")
    forward, backward = native.cpu_plan(name, *shape) if kind == "cpu" else cuda_plan.explain(name, shape, device)
    return Plan(shape, dtype, kind, forward, backward)
