"""FusedMLP, a fully connected network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import overload

import torch
from torch import nn

from fused_gan.nn.linear import FusedLinear
from fused_gan.nn.sequential import FusedSequential
from fused_gan.ops.activations import DEFAULT_NEGATIVE_SLOPE, find_activation

__all__ = ["FusedLinear", "FusedMLP", "FusedSequential"]


class FusedMLP(FusedSequential):
    """A fully connected network of `FusedLinear`s that runs as one operator.

    The initial values are those of ``nn.Sequential(nn.Linear, act, nn.Linear, act, ...)`` from the same seed. The
    ``state_dict`` differs in its keys alone: layer i is "i.weight" and "i.bias" here, "2i.weight" and "2i.bias" there.

    Args:
        widths: features of the input, of each hidden layer, and of the output: at least two numbers.
        activation: after each layer but the last: "identity", "relu", "leaky_relu", "tanh" or "sigmoid".
        output_activation: after the last layer.
        negative_slope: of every leaky_relu, at least 0.
        bias, device, dtype: of every layer, as for ``nn.Linear``.

    Shape:
        ``(..., widths[0])`` to ``(..., widths[-1])``.

    Raises:
        ValueError: fewer than two widths, an unknown activation, or a negative slope.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        output_activation: str = "identity",
        negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        find_activation(activation)  # with two widths no layer would check it
        find_activation(output_activation, "output_activation")
        if not isinstance(widths, Sequence) or len(widths) < 2:
            raise ValueError(f"widths: expected at least two numbers (input and output), got {widths!r}")
        names = [activation] * (len(widths) - 2) + [output_activation]
        super().__init__(
            *(
                FusedLinear(inputs, outputs, bias, name, negative_slope, device, dtype)
                for (inputs, outputs), name in zip(pairwise(widths), names, strict=True)
            )
        )

    @overload
    def __getitem__(self, idx: slice) -> FusedSequential: ...

    @overload
    def __getitem__(self, idx: int) -> nn.Module: ...

    def __getitem__(self, idx: slice | int) -> nn.Module:
        if isinstance(idx, slice):  # nn.Sequential calls type(self) with the children
            return FusedSequential(OrderedDict(list(self._modules.items())[idx]))
        return super().__getitem__(idx)
