"""The one table of cases: shapes, memory layouts, dtypes and slopes that the operator's tests go through."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fused_gan.ops.activations import ACTIVATIONS

ACTIVATION_NAMES = list(ACTIVATIONS)
# One activation for each way through the operators: nothing read by its gradient, its output, or its pre-activation;
# compiled into the kernels or called by them; with parameters or none. What does not depend on the formula goes through
# these, what does through all.
WAYS = ["identity", "relu", "leaky_relu", "tanh", "softplus", "gelu"]
STRAIGHT = ["identity", "relu", "leaky_relu", "relu6", "hardtanh", "hardsigmoid"]
CURVED = [name for name in ACTIVATION_NAMES if name not in STRAIGHT]  # whose second derivative is not zero
# Parameters other than the defaults.
PARAMETERS: dict[str, tuple[str, dict[str, float]]] = {
    "leaky_relu, negative slope": ("leaky_relu", {"negative_slope": -0.3}),
    "hardtanh, other bounds": ("hardtanh", {"min_val": -0.5, "max_val": 0.75}),
    "elu, alpha 1.3": ("elu", {"alpha": 1.3}),
    "elu, negative alpha": ("elu", {"alpha": -0.5}),
    "celu, alpha 0.7": ("celu", {"alpha": 0.7}),
    "softplus, beta 2 and threshold 1": ("softplus", {"beta": 2.0, "threshold": 1.0}),
    "softplus, negative beta": ("softplus", {"beta": -0.75}),
    # Where the activation is followed by a clamp, the gain is a power of two: a gain that rounds takes what lies at the
    # bound to either side of it.
    "relu, gain and clamp": ("relu", {"gain": 2.0, "clamp": 0.75}),
    "leaky_relu, all three": ("leaky_relu", {"negative_slope": 0.25, "gain": 2.0, "clamp": 0.75, "weight_gain": 0.5}),
    "leaky_relu, negative slope and gain": ("leaky_relu", {"negative_slope": -0.3, "gain": -1.25}),
    "tanh, gain": ("tanh", {"gain": -0.75}),
    "sigmoid, gain and clamp": ("sigmoid", {"gain": 2.0, "clamp": 0.875}),
    "identity, clamp": ("identity", {"clamp": 0.5}),
    "identity, weight_gain": ("identity", {"weight_gain": 0.125}),
    "gelu, gain and clamp": ("gelu", {"gain": -2.0, "clamp": 0.5}),
    "softplus, gain and beta": ("softplus", {"gain": 0.5, "beta": 2.0}),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SLOPES = [0.0, 0.01, 0.2, 1.0, 1.7]
SUBSETS = [(i, w, b) for i in (True, False) for w in (True, False) for b in (True, False)]  # who requires a gradient


class Shape(NamedTuple):
    """input is (*leading, in_features), weight (out_features, in_features)."""

    leading: tuple[int, ...]
    in_features: int
    out_features: int


# Sizes beside the tiles of the CPU kernels (vectors of 4 to 16 floats, 6 rows, 64 samples, blocks of 512 in depth).
SHAPES = {
    "one of each": Shape((1,), 1, 1),
    "1-D input": Shape((), 7, 5),
    "1-D input, wide": Shape((), 130, 70),
    "odd": Shape((3,), 5, 7),
    "no rows": Shape((0,), 5, 7),
    "no inputs": Shape((4,), 0, 3),
    "no inputs, many rows": Shape((70,), 0, 9),
    "no outputs": Shape((4,), 3, 0),
    "nothing": Shape((0,), 0, 0),
    "3-D": Shape((2, 3), 5, 9),
    "4-D": Shape((2, 1, 3), 6, 4),
    "4-D, many rows": Shape((5, 3, 7), 6, 14),
    "4-D, no rows": Shape((2, 0, 3), 6, 4),
    "4-D, no outputs": Shape((2, 1, 3), 6, 0),
    "one sample": Shape((1,), 130, 67),
    "one output": Shape((130,), 33, 1),
    "two outputs": Shape((9,), 19, 2),
    "one input": Shape((65,), 1, 33),
    "whole tiles": Shape((64,), 64, 48),
    "one above whole tiles": Shape((65,), 65, 49),
    "one below whole tiles": Shape((63,), 63, 47),
    "deep": Shape((21,), 1100, 11),
    "deep, few rows": Shape((3,), 1031, 9),
    "wide": Shape((33,), 20, 517),
    "tall": Shape((1030,), 17, 19),
    "shared by threads": Shape((250,), 120, 130),
    "shared by threads, few rows": Shape((2,), 640, 321),
}


def contiguous(values: Tensor) -> Tensor:
    return values.contiguous()


def transposed(values: Tensor) -> Tensor:
    return values.transpose(0, -1).contiguous().transpose(0, -1)


def rows_apart(values: Tensor) -> Tensor:
    """A slice of a wider tensor: an offset, and rows further apart than they are long."""
    wider = torch.full((*values.shape[:-1], values.shape[-1] + 5), float("nan")).to(values)
    wider[..., 3:-2] = values
    return wider[..., 3:-2]


def every_second(values: Tensor) -> Tensor:
    """Elements two apart, what lies between them is NaN."""
    wider = torch.full((*values.shape[:-1], values.shape[-1] * 2), float("nan")).to(values)
    wider[..., ::2] = values
    return wider[..., ::2]


def same_rows(values: Tensor) -> Tensor:
    """Stride 0 in the first dimension."""
    return values[:1].expand(values.shape)


def same_columns(values: Tensor) -> Tensor:
    """Stride 0 in the last dimension."""
    return values[..., :1].expand(values.shape)


def one_value(values: Tensor) -> Tensor:
    """Stride 0 everywhere, as the gradient of a sum."""
    return values.flatten()[0].expand(values.shape)


Layout = Callable[[Tensor], Tensor]


class Layouts(NamedTuple):
    """How the arguments and the output's gradient lie in memory."""

    input: Layout = contiguous
    weight: Layout = contiguous
    bias: Layout = contiguous
    grad: Layout = contiguous


LAYOUTS = {
    "input transposed": Layouts(input=transposed),
    "input rows apart": Layouts(input=rows_apart),
    "input elements apart": Layouts(input=every_second),
    "input expanded rows": Layouts(input=same_rows),
    "input expanded columns": Layouts(input=same_columns),
    "input one value": Layouts(input=one_value),
    "weight transposed": Layouts(weight=transposed),
    "weight rows apart": Layouts(weight=rows_apart),
    "weight elements apart": Layouts(weight=every_second),
    "weight expanded rows": Layouts(weight=same_rows),
    "weight expanded columns": Layouts(weight=same_columns),
    "weight one value": Layouts(weight=one_value),
    "bias offset": Layouts(bias=rows_apart),
    "bias elements apart": Layouts(bias=every_second),
    "bias one value": Layouts(bias=one_value),
    "gradient transposed": Layouts(grad=transposed),
    "gradient rows apart": Layouts(grad=rows_apart),
    "gradient elements apart": Layouts(grad=every_second),
    "gradient expanded rows": Layouts(grad=same_rows),
    "gradient expanded columns": Layouts(grad=same_columns),
    "gradient one value": Layouts(grad=one_value),
    "all transposed": Layouts(transposed, transposed, every_second, transposed),
    "all rows apart": Layouts(rows_apart, rows_apart, rows_apart, rows_apart),
}


class Arguments(NamedTuple):
    """The operator's tensors, and the gradient of its output to go back with."""

    input: Tensor  # (..., in_features)
    weight: Tensor  # (out_features, in_features)
    bias: Tensor | None  # (out_features,)
    grad: Tensor  # (..., out_features)

    def to(self, dtype: torch.dtype) -> Arguments:
        return Arguments(*(tensor if tensor is None else tensor.to(dtype) for tensor in self))


def arguments(
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    layouts: Layouts | None = None,
    bias: bool = True,
) -> Arguments:
    """Normal random arguments, the weight scaled so that the outputs are of order 1."""
    layouts = layouts or Layouts()

    def random(layout: Layout, *sizes: int, scale: float = 1.0) -> Tensor:
        return layout((torch.randn(*sizes, dtype=torch.float64) * scale).to(device, dtype))

    leading, in_features, out_features = shape
    return Arguments(
        random(layouts.input, *leading, in_features),
        random(layouts.weight, out_features, in_features, scale=max(1, in_features) ** -0.5),
        random(layouts.bias, out_features) if bias else None,
        random(layouts.grad, *leading, out_features),
    )
