"""FusedLinear, a Linear with its activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fused_gan.ops import linear_act
from fused_gan.ops.activations import DEFAULT_NEGATIVE_SLOPE, find_activation


class FusedLinear(nn.Linear):
    """``nn.Linear`` followed by an activation, as one operator.

    In every other respect it is an ``nn.Linear``, with the same ``state_dict`` and the same initial values from the
    same seed.

    Args:
        in_features, out_features, bias, device, dtype: as for ``nn.Linear``.
        activation: "identity", "relu", "leaky_relu", "tanh" or "sigmoid".
        negative_slope: of leaky_relu, at least 0.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Raises:
        ValueError: the activation is unknown or the slope negative.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "relu",
        negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        find_activation(activation)
        if not isinstance(negative_slope, (int, float)) or not negative_slope >= 0:
            raise ValueError(f"negative_slope: expected a number ≥ 0, got {negative_slope!r}")
        super().__init__(in_features, out_features, bias, device, dtype)
        self.activation = activation
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        return linear_act(input, self.weight, self.bias, self.activation, self.negative_slope)

    def extra_repr(self) -> str:
        slope = f", negative_slope={self.negative_slope}" if self.activation == "leaky_relu" else ""
        return f"{super().extra_repr()}, activation={self.activation!r}{slope}"
