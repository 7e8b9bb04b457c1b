"""FusedLinear, a Linear with its activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fused_gan.ops import linear_act
from fused_gan.ops.activations import (
    ACTIVATIONS,
    DEFAULT_NEGATIVE_SLOPE,
    IDLE,
    Fault,
    check_parameters,
    check_weight_gain,
    find_activation,
    make_scale,
)


class FusedLinear(nn.Module):
    """``nn.Linear`` and the activation that follows it, as one module and one operator.

    It has the ``state_dict`` of an ``nn.Linear``, and the same initial values from the same seed. It is not an
    ``nn.Linear``: whoever replaces, wraps or quantises the Linears of a model would lose the activation without a word.
    For such tools keep ``nn.Linear`` and its activation in a Sequential, and call `fused_gan.fuse`.

    Args:
        in_features, out_features, bias, device, dtype: as for ``nn.Linear``.
        activation: a name in `fused_gan.ops.activations.ACTIVATIONS`, such as "relu", "gelu" or "softplus".
        negative_slope: of leaky_relu, any finite number; ignored by the others.
        gain, clamp, weight_gain: as for `fused_gan.linear_act`.
        **parameters: the other parameters of the activation, as for `fused_gan.linear_act`.

    Attributes:
        weight: the parameter (out_features, in_features).
        bias: the parameter (out_features,), or None.
        activation, negative_slope, gain, clamp, weight_gain: as given; they may be changed.
        min_val, max_val, alpha, beta, threshold: those that the activation has; they may be changed.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Raises:
        ValueError: the activation is unknown, does not have a parameter that is given, or a parameter is wrong.
        TypeError: a keyword is unknown.
    """

    weight: Tensor
    bias: Tensor | None
    negative_slope: float
    # Of the class too, for modules that were saved before these numbers existed.
    gain: float = 1.0
    clamp: float | None = None
    weight_gain: float = 1.0

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "relu",
        negative_slope: float = DEFAULT_NEGATIVE_SLOPE,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        gain: float = 1.0,
        clamp: float | None = None,
        weight_gain: float = 1.0,
        **parameters: float,
    ) -> None:
        super().__init__()
        row = find_activation(activation)
        check_parameters([activation], negative_slope, parameters)
        make_scale(gain, clamp)
        check_weight_gain(weight_gain)
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        added = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", added)
        self.activation = activation
        self.gain, self.clamp, self.weight_gain = gain, clamp, weight_gain
        for name, value in {**row.parameters, **parameters, "negative_slope": negative_slope}.items():
            setattr(self, name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values, as ``nn.Linear.reset_parameters``."""
        nn.Linear.reset_parameters(self)  # type: ignore[arg-type]  # it reads the two parameters alone

    def forward(self, input: Tensor) -> Tensor:
        names = find_activation(self.activation).parameters
        given: dict[str, Any] = {}
        if names and "negative_slope" not in names:
            own = vars(self)
            # A layer whose activation was changed may lack some; it has torch's defaults then.
            given = {name: own[name] for name in names if name in own}
        gain, weight_gain = self.gain, self.weight_gain
        # Written out, as a small layer takes a few microseconds in all. A wrong kind is left to the operator to name.
        idle = self.clamp is None and type(gain) is type(weight_gain) is float and gain == weight_gain == 1
        if not idle:
            given |= {name: getattr(self, name) for name in IDLE}
        return linear_act(input, self.weight, self.bias, self.activation, self.negative_slope, **given)

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        names = ACTIVATIONS[self.activation].parameters if self.activation in ACTIVATIONS else ()
        own = vars(self)
        values = "".join(f", {name}={own[name]}" for name in names if name in own)
        values += "".join(f", {name}={getattr(self, name)}" for name in IDLE if not _is_idle(self, name))
        return f"{sizes}, activation={self.activation!r}{values}"


def scaled(layer: FusedLinear) -> Fault | None:
    """Return which number beside those of its activation a layer has; None where it has none."""
    for name, idle in IDLE.items():
        if not _is_idle(layer, name):
            return Fault(name, f"{idle} in a chain", getattr(layer, name))
    return None


def _is_idle(layer: FusedLinear, name: str) -> bool:
    value = getattr(layer, name)
    return value is IDLE[name] or (type(value) in (int, float) and value == IDLE[name])  # a wrong kind is not compared
