"""FusedLinear, a Linear with its activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fused_gan.ops import linear_act
from fused_gan.ops.activations import DEFAULT_NEGATIVE_SLOPE, find_activation, require_slope


class FusedLinear(nn.Module):
    """``nn.Linear`` and the activation that follows it, as one module and one operator.

    It has the ``state_dict`` of an ``nn.Linear``, and the same initial values from the same seed. It is not an
    ``nn.Linear``: whoever replaces, wraps or quantises the Linears of a model would lose the activation without a word.
    For such tools keep ``nn.Linear`` and its activation in a Sequential, and call `fused_gan.fuse`.

    Args:
        in_features, out_features, bias, device, dtype: as for ``nn.Linear``.
        activation: "identity", "relu", "leaky_relu", "tanh" or "sigmoid".
        negative_slope: of leaky_relu, at least 0.

    Attributes:
        weight: the parameter (out_features, in_features).
        bias: the parameter (out_features,), or None.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Raises:
        ValueError: the activation is unknown or the slope negative.
    """

    weight: Tensor
    bias: Tensor | None

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
        super().__init__()
        find_activation(activation)
        require_slope(negative_slope)
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        added = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", added)
        self.activation = activation
        self.negative_slope = negative_slope
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values, as ``nn.Linear.reset_parameters``."""
        nn.Linear.reset_parameters(self)  # type: ignore[arg-type]  # it reads the two parameters alone

    def forward(self, input: Tensor) -> Tensor:
        return linear_act(input, self.weight, self.bias, self.activation, self.negative_slope)

    def extra_repr(self) -> str:
        slope = f", negative_slope={self.negative_slope}" if self.activation == "leaky_relu" else ""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{sizes}, activation={self.activation!r}{slope}"
